"""The only place that knows LanceDB."""
