"""The model slot: one loaded model, who uses it next, and the thread that runs it. Imports no model library."""
