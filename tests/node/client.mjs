// A client in JavaScript, as a test's other side: connects, lists, searches, is told of a change, and says what it saw.
// Arguments: "sdk" (@modelcontextprotocol/sdk) or "legacy" or "auto" (@modelcontextprotocol/client), query, file to
// write, command and its arguments.
import { writeFileSync } from "node:fs";

const [how, query, file, command, ...args] = process.argv.slice(2);
const STATUS = "folder-mcp://status";
const UPDATED = "notifications/resources/updated";

async function made() {
  if (how === "sdk") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
    const { ResourceUpdatedNotificationSchema } = await import("@modelcontextprotocol/sdk/types.js");
    const client = new Client({ name: "test", version: "1" });
    return { client, transport: new StdioClientTransport({ command, args }), updated: ResourceUpdatedNotificationSchema };
  }
  const { Client } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: how } });
  return { client, transport: new StdioClientTransport({ command, args }), updated: UPDATED };
}

const { client, transport, updated } = await made();
const began = Date.now();
await client.connect(transport);
const connected_ms = Date.now() - began;

let told;
const change = new Promise((resolve) => (told = resolve));
client.setNotificationHandler(updated, (notification) => told(notification.params.uri));
if (how === "auto") await client.listen({ resourceSubscriptions: [STATUS] });
else await client.subscribeResource({ uri: STATUS });

const tools = (await client.listTools()).tools.map((tool) => tool.name); // also compiles the output schemas
const progress = [];
const found = await client.callTool({ name: "search", arguments: { query } }, ...(how === "sdk" ? [undefined] : []), {
  onprogress: (event) => progress.push(event.message),
});
const wrong = await client.callTool({ name: "search", arguments: { qurey: query } });
writeFileSync(file, "# Lighthouse\n\nThe lamp was replaced in spring.\n");
const changed = await change;
const status = JSON.parse((await client.readResource({ uri: STATUS })).contents[0].text);
console.log(
  JSON.stringify({
    connected_ms,
    tools,
    paths: found.structuredContent.hits.map((hit) => hit.path),
    progress,
    wrong: wrong.isError && wrong.content[0].text,
    changed,
    folders: status.folders.map((folder) => folder.path),
  }),
);
await client.close();
