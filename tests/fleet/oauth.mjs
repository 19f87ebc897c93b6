// A TypeScript SDK client that logs in, calls, and steps up: see test_oauth.py. Prints one JSON object.
//
//     node oauth.mjs NODE_MODULES 1|2 URL

import { pathToFileURL } from "node:url";

const [modules, version, url] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/${path}`));
const { Client } = await load(version === "1" ? "sdk/dist/esm/client/index.js" : "client/dist/index.mjs");
const { StreamableHTTPClientTransport } = await load(
  version === "1" ? "sdk/dist/esm/client/streamableHttp.js" : "client/dist/index.mjs",
);

class Keeper {
  redirectUrl = "http://127.0.0.1:1/callback";
  clientMetadata = {
    client_name: "oauth.mjs",
    redirect_uris: [this.redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "client_secret_post",
  };
  clientInformation = () => this.client;
  saveClientInformation = (client) => void (this.client = client);
  tokens = () => this.kept;
  saveTokens = (tokens) => void (this.kept = tokens);
  codeVerifier = () => this.verifier;
  saveCodeVerifier = (verifier) => void (this.verifier = verifier);
  // The login page says yes at once, and sends the browser back.
  redirectToAuthorization = async (page) => {
    const { headers } = await fetch(page, { redirect: "manual" });
    this.cameBack = new URL(headers.get("location")).searchParams;
  };
}

const keeper = new Keeper();
const open = () => new StreamableHTTPClientTransport(new URL(url), { authProvider: keeper });
const finish = (transport) => transport.finishAuth(version === "1" ? keeper.cameBack.get("code") : keeper.cameBack);
const isLogin = (error) => error.constructor.name === "UnauthorizedError" || /Unauthorized/.test(error.message);

let transport = open();
let client = new Client({ name: "oauth.mjs", version: "1" });
let logins = 0;
async function loggingIn(step) {
  try {
    return await step();
  } catch (error) {
    if (!isLogin(error)) throw error;
    logins += 1;
    await finish(transport);
    return undefined;
  }
}

await loggingIn(() => client.connect(transport));
transport = open();
client = new Client({ name: "oauth.mjs", version: "1" });
await client.connect(transport);
const tools = (await client.listTools()).tools.map(({ name }) => name);
const args = { a: 2, b: 3 };
const added = (await client.callTool({ name: "add", arguments: args })).structuredContent;
const multiply = () => client.callTool({ name: "multiply", arguments: args });
const multiplied = (await loggingIn(multiply)) ?? (await multiply());
console.log(JSON.stringify({ tools, added, multiplied: multiplied.structuredContent, logins }));
await client.close();
