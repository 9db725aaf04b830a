// A bittorrent-dht node that obeys: one JSON command a line on stdin, one JSON answer a line on
// stdout, in the same order. {"ok": true, …} is what was asked for; {"ok": false, "error": "…",
// "code": 302} what went wrong, with the KRPC code where a node gave one. When stdin ends, so does
// it.
//
// Bytes are hex. Bencoded values are tagged, since JSON knows neither bytes nor large ints:
// {"b": "00ff"} · {"i": "-7"} · {"l": [value, …]} · {"d": [["key in hex", value], …]}.

import crypto from 'node:crypto'
import readline from 'node:readline'
import DHT from 'bittorrent-dht'

// node:crypto takes Ed25519 keys in DER only: these bytes stand before a raw key (RFC 8410).
const SPKI = Buffer.from('302a300506032b6570032100', 'hex')
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')

let dht = null
let gets = 0 // queries that asked for a value this node holds

const COMMANDS = {
  async start ({ bootstrap, id }) {
    if (dht !== null) throw new Error('start: it runs already')
    if (!Array.isArray(bootstrap)) throw new Error('start: bootstrap is a list of "127.x.y.z:port"')
    for (const address of bootstrap) {
      // An empty or missing list would make the library ask the public routers.
      if (!/^127\.\d+\.\d+\.\d+:\d+$/.test(address)) throw new Error(`start: ${address} is not on loopback`)
    }
    const options = { bootstrap, verify }
    if (id !== undefined) options.nodeId = bytes(id, 'id', 20)
    const node = new DHT(options)
    node.on('error', error => { process.stderr.write(`${error.stack}\n`); process.exit(1) })
    node.on('get', (_, value) => { if (value) gets += 1 })
    const ready = once(node, 'ready')
    await new Promise(resolve => node.listen(0, '127.0.0.1', resolve))
    await ready
    dht = node
    return { id: node.nodeId.toString('hex'), port: node.address().port }
  },

  put ({ seed, seq, salt, cas, v }) {
    const [publicKey, sign] = signer(bytes(seed, 'seed', 32))
    return put({ k: publicKey, sign, seq: number(seq, 'seq'), salt, cas, v })
  },

  put_signed ({ k, sig, seq, salt, cas, v }) {
    return put({
      k: bytes(k, 'k', 32), sig: bytes(sig, 'sig', 64), seq: number(seq, 'seq'), salt, cas, v
    })
  },

  get ({ k, salt }) {
    const [publicKey, salted] = [bytes(k, 'k', 32), bytes(salt ?? '', 'salt')]
    const options = { verify, cache: false }
    if (salted.length > 0) options.salt = salted
    return new Promise((resolve, reject) => {
      running().get(sha1(publicKey, salted), options, (error, item) => {
        if (error) return reject(error)
        if (item === null) return resolve({ found: false })
        resolve({ found: true, k: hex(item.k), sig: hex(item.sig), seq: item.seq, v: tagged(item.v) })
      })
    })
  },

  // Hold an item without looking at it, and hand it to whoever asks: what a liar would do.
  hold ({ k, sig, seq, salt, v }) {
    const [publicKey, salted] = [bytes(k, 'k', 32), bytes(salt ?? '', 'salt')]
    running()._values.set(sha1(publicKey, salted).toString('hex'), {
      id: dht.nodeId, k: publicKey, sig: bytes(sig, 'sig'), seq: number(seq, 'seq'), salt: salted, v: value(v)
    })
    return {}
  },

  gets () {
    return { gets }
  },

  async close () {
    if (dht !== null) await new Promise(resolve => dht.destroy(resolve))
    dht = null
    return {}
  }
}

function running () {
  if (dht === null) throw new Error('the node is not running: start it first')
  return dht
}

function put ({ salt, cas, v, ...options }) {
  const salted = bytes(salt ?? '', 'salt')
  if (salted.length > 0) options.salt = salted
  if (cas !== undefined) options.cas = number(cas, 'cas')
  options.v = value(v)
  return new Promise((resolve, reject) => {
    running().put(options, (error, target, accepted) => {
      if (error) return reject(error)
      resolve({ target: hex(target), accepted })
    })
  })
}

function verify (signature, message, publicKey) {
  if (signature?.length !== 64 || publicKey?.length !== 32) return false
  const key = { key: Buffer.concat([SPKI, publicKey]), format: 'der', type: 'spki' }
  return crypto.verify(null, message, key, signature)
}

function signer (seed) {
  const key = crypto.createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' })
  const spki = crypto.createPublicKey(key).export({ format: 'der', type: 'spki' })
  return [spki.subarray(SPKI.length), message => crypto.sign(null, message, key)]
}

function sha1 (...parts) {
  return crypto.createHash('sha1').update(Buffer.concat(parts)).digest()
}

function once (emitter, event) {
  return new Promise(resolve => emitter.once(event, resolve))
}

function hex (raw) {
  return Buffer.from(raw).toString('hex')
}

function bytes (text, name, size) {
  const raw = typeof text === 'string' ? Buffer.from(text, 'hex') : null
  if (raw === null || raw.length * 2 !== text.length) throw new Error(`${name} is not hex: ${text}`)
  if (size !== undefined && raw.length !== size) throw new Error(`${name} is ${size} bytes, got ${raw.length}`)
  return raw
}

function number (given, name) {
  if (!Number.isSafeInteger(given)) throw new Error(`${name} is not an int that a Number can hold: ${given}`)
  return given
}

function value (tag) {
  if (tag?.b !== undefined) return bytes(tag.b, 'b')
  if (tag?.i !== undefined) return number(Number(tag.i), 'i')
  if (Array.isArray(tag?.l)) return tag.l.map(value)
  if (Array.isArray(tag?.d)) return Object.fromEntries(tag.d.map(([key, one]) => [text(key), value(one)]))
  throw new Error(`not a tagged value: ${JSON.stringify(tag)}`)
}

function text (key) {
  const raw = bytes(key, 'key')
  const name = raw.toString('utf8')
  if (!Buffer.from(name).equals(raw)) throw new Error(`a key that is not UTF-8 cannot be said: ${key}`)
  return name
}

function tagged (one) {
  if (typeof one === 'number') return { i: BigInt(one).toString() }
  if (ArrayBuffer.isView(one)) return { b: hex(one) }
  if (Array.isArray(one)) return { l: one.map(tagged) }
  return { d: Object.entries(one).map(([key, inner]) => [hex(Buffer.from(key)), tagged(inner)]) }
}

async function answer (line) {
  try {
    const { command, ...given } = JSON.parse(line)
    if (!Object.hasOwn(COMMANDS, command)) throw new Error(`no such command: ${command}`)
    return { ok: true, ...await COMMANDS[command](given) }
  } catch (error) {
    return { ok: false, error: error.message, code: typeof error.code === 'number' ? error.code : null }
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(line))}\n`)
}
await COMMANDS.close()
