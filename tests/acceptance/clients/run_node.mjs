// Node's fetch and WebSocket. Node's own fetch is undici's; proxies are dispatchers that the module undici offers.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { subscribe } from "node:diagnostics_channel";

const require = createRequire(`${process.env.CLIENT_MODULES}/`);
const { Agent, ProxyAgent, WebSocket, buildConnector, fetch } = require("undici");
const { SocksClient } = require("socks");

const SECONDS = 30;

let version;  // of HTTP, on the latest connection
subscribe("undici:client:connected", ({ connectParams }) => {
  version = connectParams.version == "h2" ? "HTTP/2" : "HTTP/1.1";
});

// undici has no SOCKS, but takes a function that connects.
function overSocks({ hostname: host, port }, tls) {
  const inTls = buildConnector(tls);
  return (options, callback) => {
    const destination = { host: options.hostname, port: Number(options.port) };
    SocksClient.createConnection({ proxy: { host, port: Number(port), type: 5 }, command: "connect", destination }).then(
      ({ socket }) => options.protocol == "https:" ? inTls({ ...options, httpSocket: socket }, callback)
        : callback(null, socket), callback);
  };
}

function dispatcher(job) {
  const trusted = { ca: readFileSync(job.ca) };
  const allowH2 = job.client.includes("allowH2");
  if (job.proxy.startsWith("socks5h:")) {
    return new Agent({ connect: overSocks(new URL(job.proxy), { ...trusted, allowH2 }), allowH2 });
  }
  if (job.proxy) {
    return new ProxyAgent({ uri: job.proxy, requestTls: trusted, proxyTls: { ca: readFileSync(job.proxy_ca) }, allowH2 });
  }
  return new Agent({ connect: trusted, allowH2 });
}

async function get(job, options) {
  const answer = await fetch(job.url, options);
  return { version, text: await answer.text(), mark: answer.headers.get("x-mark") };
}

// The second event is sent when the first was seen, so they come one by one or not at all.
async function events(job, options) {
  const token = randomUUID(), decoder = new TextDecoder();
  const answer = await fetch(`${job.url}?${token}`, options);
  let text = "";
  for await (const chunk of answer.body) {
    text += decoder.decode(chunk, { stream: true });
    if (text.endsWith("\n\n")) await (await fetch(new URL(`/seen?${token}`, job.url), options)).text();
  }
  const found = [...text.matchAll(/^data: (.*)$/gm)].map(match => match[1]);
  if (found.length != 2) throw new Error(text);
  return { version, text: found[0], mark: answer.headers.get("x-mark") };
}

function socket(job, options) {
  return new Promise((resolve, reject) => {
    const said = [], connection = new WebSocket(job.url, options);
    connection.onerror = event => reject(event.error ?? new Error("no WebSocket"));
    connection.onmessage = event => {
      said.push(event.data);
      if (said.length == 1) connection.send("echo");
      else {
        connection.close();
        resolve({ version, text: said[0], mark: null });
      }
    };
  });
}

async function one(job) {
  const client = job.client.includes("WebSocket") ? socket : job.client.includes("event stream") ? events : get;
  const options = { dispatcher: dispatcher(job) };
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("timeout")), SECONDS * 1000); });
  try {
    return await Promise.race([client(job, options), late]);
  } catch (error) {
    return { failed: `${error}: ${error.cause}` };
  } finally {
    clearTimeout(timer);
    options.dispatcher.destroy().catch(() => {});
  }
}

const seen = [];
for (const job of JSON.parse(process.argv[2])) seen.push(await one(job));
console.log(JSON.stringify(seen));
process.exit(0);
