// A bittorrent-dht node that looks keys up as it is told: what client.py is for our own clients.
// `node bittorrent_dht.mjs LIBRARY` takes the path of the library's index.js.

import crypto from 'node:crypto'
import dgram from 'node:dgram'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'

const { default: DHT } = await import(pathToFileURL(process.argv[2]))

const SOCKET_BUFFER = 4 << 20 // bytes, as all clients have

// node:crypto takes Ed25519 keys in DER only: these bytes stand before a raw key (RFC 8410).
const SPKI = Buffer.from('302a300506032b6570032100', 'hex')

let dht = null
let expected = null // { value, seq }
let datagrams = 0
let onTick = () => {}

async function start ({ bootstrap, value, seq, concurrency }) {
  expected = { value: Buffer.from(value, 'hex'), seq }
  const socket = counted(dgram.createSocket('udp4'))
  dht = new DHT({ bootstrap: bootstrap.slice(0, 2), verify, socket, concurrency })
  dht.on('error', error => { throw error })
  readOnly(dht._rpc.socket)
  await new Promise(resolve => { dht.on('ready', resolve); dht.listen(0, '127.0.0.1') })
  socket.setRecvBufferSize(SOCKET_BUFFER)
  socket.setSendBufferSize(SOCKET_BUFFER)
  for (const [host, port] of bootstrap.map(one => one.split(':'))) dht.addNode({ host, port: Number(port) })
  while (dht.nodes.toArray().length < bootstrap.length) await sleep(20)
  return true
}

function counted (socket) {
  const send = socket.send
  socket.send = (...given) => { datagrams += 1; return send.apply(socket, given) }
  socket.on('message', () => { datagrams += 1 })
  return socket
}

// Say so in each query (BEP 43): others do not look here.
function readOnly (rpc) {
  const send = rpc.send
  rpc.send = (peer, message, callback) => send.call(rpc, peer, message.y === 'q' ? { ...message, ro: 1 } : message, callback)
}

function verify (signature, message, publicKey) {
  if (signature?.length !== 64 || publicKey?.length !== 32) return false
  const key = { key: Buffer.concat([SPKI, publicKey]), format: 'der', type: 'spki' }
  return crypto.verify(null, message, key, signature)
}

// Whether it was found; a wrong answer ends everything. The library calls back at the lookup's end
// only: of a mutable item it tells no first value.
function lookUp (key) {
  const target = crypto.createHash('sha1').update(Buffer.from(key, 'hex')).digest()
  return new Promise((resolve, reject) => {
    dht.get(target, { verify, cache: false }, (error, item) => {
      if (error || item === null) return resolve(false)
      if (!expected.value.equals(item.v) || item.seq !== expected.seq) reject(new Error(`a wrong answer: seq ${item.seq}`))
      resolve(true)
    })
  })
}

async function timed (times, i, key, since) {
  if (await lookUp(key)) times[i] = now() - since
}

function closed (times, { keys, window, limit }) {
  const end = now() + limit
  let next = 0
  async function work () {
    while (next < keys.length && now() < end) {
      const i = next++
      await timed(times, i, keys[i], now())
    }
  }
  return within(limit, Array.from({ length: window }, work))
}

async function opened (times, { keys, at, start, limit }) {
  const running = []
  await new Promise(resolve => {
    onTick = () => {
      const i = running.length
      running.push(timed(times, i, keys[i], start + at[i]))
      if (running.length === keys.length) resolve()
    }
  })
  onTick = () => {}
  await within(start + at.at(-1) + limit - now(), running)
}

async function round (order) {
  const times = order.keys.map(() => null)
  const [before, cpu, begin] = [datagrams, process.cpuUsage(), now()]
  await (order.at.length ? opened : closed)(times, order)
  const answered = Math.max(1, times.filter(one => one !== null).length)
  const spent = process.cpuUsage(cpu)
  return {
    first: [],
    end: [...times],
    cpu: (spent.user + spent.system) / 1e6 / answered,
    seconds: (now() - begin) / answered,
    datagrams: (datagrams - before) / answered
  }
}

async function within (limit, promises) {
  let timer
  const over = new Promise(resolve => { timer = setTimeout(resolve, 1000 * limit) })
  await Promise.race([Promise.all(promises), over])
  clearTimeout(timer)
}

function now () {
  return Number(process.hrtime.bigint()) / 1e9
}

function sleep (milliseconds) {
  return new Promise(resolve => setTimeout(resolve, milliseconds))
}

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', async line => {
  if (line === '') return onTick()
  const said = JSON.parse(line)
  process.stdout.write(`${JSON.stringify(await (dht === null ? start(said) : round(said)))}\n`)
})
lines.on('close', () => process.exit(0))
