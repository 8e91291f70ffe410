/** Small CommonJS scripts that tests run inside a network namespace with `node -e`. */

/** Answers every TCP connection with the caller's address. Arguments: port, listening address. */
export const tcpServer: string = `
const [port, host] = process.argv.slice(1);
require("node:net").createServer((socket) => { socket.on("error", () => {}); socket.end(socket.remoteAddress); })
  .listen({ port: Number(port), host }, () => console.log("ready"));`;

/** Connects to each \`address:port\` argument at once; prints a JSON object of what it read, or "" where it got nothing in a second. */
export const tcpProbe: string = `
const net = require("node:net");
const one = (target) => new Promise((resolve) => {
  const at = target.lastIndexOf(":");
  const socket = net.connect({ host: target.slice(0, at), port: Number(target.slice(at + 1)) });
  let text = "";
  const end = () => { socket.destroy(); resolve([target, text]); };
  socket.setTimeout(1000, end).on("error", end).on("data", (data) => { text += data; }).on("end", end);
});
Promise.all(process.argv.slice(1).map(one)).then((all) => console.log(JSON.stringify(Object.fromEntries(all))));`;

/** Asks the DNS server of the first argument for the names of the others; prints a JSON object of sorted addresses or error codes. */
export const dnsProbe: string = `
const [server, ...names] = process.argv.slice(1);
const resolver = new (require("node:dns").promises.Resolver)({ timeout: 1000, tries: 1 });
resolver.setServers([server]);
const one = async (name) => [name, await resolver.resolve4(name).then((ips) => ips.sort(), (error) => error.code)];
Promise.all(names.map(one)).then((all) => console.log(JSON.stringify(Object.fromEntries(all))));`;

/** A DNS server that answers A questions. Arguments: listening address, answer, and a JSON object of other answers by name. */
export const dnsServer: string = `
const [host, answer, others] = process.argv.slice(1);
const answers = JSON.parse(others ?? "{}");
const server = require("node:dgram").createSocket("udp4");
server.on("message", (query, from) => {
  let end = 12;
  const labels = [];
  while (query[end]) {
    labels.push(String(query.subarray(end + 1, end + 1 + query[end])));
    end += query[end] + 1;
  }
  const ip = answers[labels.join(".")] ?? answer;
  const question = query.subarray(12, end + 5);
  const isA = question.readUInt16BE(question.length - 4) === 1;
  const header = Buffer.from([query[0], query[1], 0x81, 0x80, 0, 1, 0, isA ? 1 : 0, 0, 0, 0, 0]);
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, ...ip.split(".").map(Number)]);
  server.send(Buffer.concat(isA ? [header, question, record] : [header, question]), from.port, from.address);
}).bind(53, host, () => console.log("ready"));`;

/** Answers TCP connections and datagrams with one byte. Arguments: addresses separated by commas, and ports. */
export const echoServer: string = `
const net = require("node:net");
const dgram = require("node:dgram");
const [hosts, ...ports] = process.argv.slice(1);
const one = (host, port) => [
  new Promise((done) => net.createServer((socket) => { socket.on("error", () => {}); socket.end("x"); }).listen(port, host, done)),
  new Promise((done) => {
    const socket = dgram.createSocket("udp4");
    socket.on("message", (_, from) => socket.send("x", from.port, from.address)).bind(port, host, done);
  }),
];
Promise.all(hosts.split(",").flatMap((host) => ports.flatMap((port) => one(host, Number(port))))).then(() => console.log("ready"));`;

/**
 * Tries each of the arguments at once: \`tcp:<ip>:<port>\`, \`udp:<ip>:<port>\` or \`icmp:<ip>\`.
 * Prints a JSON list of those from which an answer came.
 */
export const reachProbe: string = `
const net = require("node:net");
const dgram = require("node:dgram");
const { execFile } = require("node:child_process");
const waitMs = 1500;
const probes = {
  tcp: (host, port) => new Promise((resolve) => {
    const socket = net.connect({ host, port: Number(port) });
    const end = (passed) => { socket.destroy(); resolve(passed); };
    socket.setTimeout(waitMs, () => end(false)).on("error", (error) => end(error.code === "ECONNREFUSED")).on("connect", () => end(true));
  }),
  udp: (host, port) => new Promise((resolve) => {
    const socket = dgram.createSocket("udp4");
    const end = (passed) => { clearInterval(again); clearTimeout(timer); socket.close(); resolve(passed); };
    const timer = setTimeout(() => end(false), waitMs);
    // A question for the address of web.mvm, which a DNS server answers too; twice, since the first waits for ARP.
    const question = Buffer.from("123401000001000000000000037765620" + "36d766d0000010001", "hex");
    const send = () => socket.send(question, Number(port), host, () => {});
    const again = setInterval(send, 400);
    socket.on("message", () => end(true)).on("error", () => end(false));
    send();
  }),
  icmp: (host) => new Promise((resolve) => execFile("ping", ["-n", "-c1", "-W1", host], (error) => resolve(error === null))),
};
const one = async (target) => {
  const [protocol, host, port] = target.split(":");
  return (await probes[protocol](host, port)) ? [target] : [];
};
Promise.all(process.argv.slice(1).map(one)).then((all) => console.log(JSON.stringify(all.flat())));`;

/** Collects datagrams; each is printed as a line. Arguments: port. */
export const udpSink: string = `
const sink = require("node:dgram").createSocket("udp4");
sink.on("message", (data) => console.log(String(data))).bind(Number(process.argv[1]), () => console.log("ready"));`;

/** Sends one datagram three times. Arguments: own address, target address, port, text. */
export const udpSend: string = `
const [own, host, port, data] = process.argv.slice(1);
const socket = require("node:dgram").createSocket("udp4");
socket.bind(0, own, async () => {
  for (let count = 0; count < 3; count += 1) await new Promise((done) => socket.send(data, Number(port), host, done));
  socket.close();
});`;
