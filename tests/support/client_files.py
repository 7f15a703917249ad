"""Configuration files as clients and people write them; the bytes matter."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"

DESKTOP = b"""{
  "globalShortcut": "Ctrl+Space",
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": [
        "-y",
        "@modelcontextprotocol/server-filesystem",
        "/Users/ada/Desktop"
      ]
    },
    "github": {
      "command": "docker",
      "args": ["run", "-i", "--rm", "ghcr.io/github/github-mcp-server"],
      "env": { "GITHUB_PERSONAL_ACCESS_TOKEN": "ghp_\\u0041bc" }
    }
  }
}"""

CODE = b"""{
  "numStartups": 41,
  "installMethod": "unknown",
  "tipsHistory": {"new-user-warmup": 1, "memory-command": 40},
  "projects": {
    "/home/ada/work": {
      "allowedTools": [],
      "mcpServers": {},
      "lastCost": 0.1234567890123456789,
      "history": [{"display": "what does \\"mcpServers\\": { mean?", "pastedContents": {}}]
    }
  },
  "userID": "6a1f",
  "mcpServers": {
    "playwright": {"type": "stdio", "command": "npx", "args": ["@playwright/mcp@latest"], "env": {}}
  },
  "cachedChangelog": "- Fixed a bug \\u2014 with // comments and { braces",
  "firstStartTime": "2025-06-28T11:38:57.179Z"
}
"""

VSCODE = b"""// servers of all workspaces
{
\t"inputs": [
\t\t/* asked once */
\t\t{ "type": "promptString", "id": "key", "description": "API Key", "password": true },
\t],
\t"servers": {   // keep sorted!
\t\t"github": {
\t\t\t"type": "http",
\t\t\t"url": "https://api.githubcopilot.com/mcp/", // remote
\t\t},
\t\t// "off": { "command": "x" },
\t\t"perplexity": { "type": "stdio", "command": "npx", "env": { "K": "${input:key}" } },
\t},
}
"""

ZED = b"""// Zed settings
//
// For information on how to configure Zed, see the Zed
// documentation: https://zed.dev/docs/configuring-zed
{
  "ui_font_size": 16,
  "theme": {
    "mode": "system", // follows the desktop
    "light": "One Light",
    "dark": "One Dark",
  },
  "context_servers": {
    // the old form
    "postgres": {
      "source": "custom",
      "command": { "path": "node", "args": ["pg.js"], "env": null },
    },
  },
  "lsp": { "rust-analyzer": { "binary": { "path": "/usr/bin/ra" } } },
}
"""

GEMINI = b"""{
    "security": {"auth": {"selectedType": "oauth-personal"}},
    /* theme */ "ui": {"theme": "Default"},
    "mcpServers": {
        "pythonTools": {
            "command": "python",
            "args": ["-m", "my_mcp_server"],
            "env": {"API_KEY": "$MY_API_TOKEN"},
            "timeout": 15000
        }
    }
}
"""

CODEX = b"""\
# Codex
model = "gpt-5.5-codex"   # the big one
approval_policy = 'on-request'
notify = [
  "python3",  # not 3.8
  "/home/ada/notify.py",
]

[mcp_servers.context7]
command = "npx"
args = ["-y", "@upstash/context7-mcp"]
env = { "API_KEY" = "va#lue", "B" = "[x]" }

[mcp_servers."docs server".env]
TEXT = \"\"\"
[mcp_servers.folder-mcp]
not a table\"\"\"

[projects."/home/ada/work"]
trust_level = "trusted"

# [profiles.o3]
[[hooks]]
event = "stop"
"""

GOOSE = b"""\
GOOSE_PROVIDER: anthropic
GOOSE_MODEL: "claude-sonnet"   # was opus
extensions:
  developer:
    bundled: true
    display_name: Developer
    enabled: true
    name: developer
    timeout: 300
    type: builtin
  # mine
  github:
    name: GitHub
    cmd: npx
    args: [-y, "@modelcontextprotocol/server-github"]
    enabled: true
    envs: { "GITHUB_PERSONAL_ACCESS_TOKEN": "<TOKEN>" }
    type: stdio
    timeout: 300
GOOSE_MODE: smart_approve
"""

CLINE = b"""{
  "mcpServers": {
    "time": {
      "autoApprove": ["get_current_time"],
      "disabled": false,
      "timeout": 60,
      "type": "stdio",
      "command": "uvx",
      "args": ["mcp-server-time"]
    }
  }
}"""


def _odd(data: bytes) -> dict[str, bytes]:
    """A file as it is, from Windows, with a byte order mark, without a last line ending."""
    return {
        "usual": data,
        "windows": _BOM + data.replace(b"\n", b"\r\n"),
        "unended": data.rstrip(),
    }


_JSON = {"empty": b"", "braces": b"{}", "spaces": b"{ }\n", "lines": b"{\n}\n", "blank": b"\n\n", "mark": _BOM}

FILES: dict[str, dict[str, bytes]] = {
    "claude-desktop": {**_odd(DESKTOP), **_JSON, "table": b'{"mcpServers": {}}', "dense": b'{"mcpServers":{"a":{}}}'},
    "claude-code": {**_odd(CODE), **_JSON, "none": b'{"numStartups":1,"projects":{}}'},
    "cursor": {**_odd(DESKTOP), **_JSON, "tabs": DESKTOP.replace(b"  ", b"\t")},
    "vscode": {**_odd(VSCODE), **_JSON, "none": b'{\n\t"inputs": [],\n}\n'},
    "windsurf": {**_odd(DESKTOP), **_JSON},
    "zed": {**_odd(ZED), **_JSON, "comments": b"// nothing yet\n", "none": ZED.replace(b"context_servers", b"other")},
    "gemini-cli": {**_odd(GEMINI), **_JSON},
    "codex": {**_odd(CODEX), "empty": b"", "mark": _BOM, "one": b'model = "o"\n', "comment": b"# nothing yet"},
    "goose": {**_odd(GOOSE), "empty": b"", "none": b"GOOSE_MODE: auto\n", "braces": b"a: 1\nextensions: {}\nb: 2\n",
              "null": b"extensions:\nb: 2\n", "comment": b"# nothing yet\n"},
    "cline": {**_odd(CLINE), **_JSON},
}  # fmt: skip
