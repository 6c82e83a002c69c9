// MQTT.js holds the broker to MQTT 5. Prints "ok" and the number of checks; any failure is an exception.
'use strict'

const assert = require('node:assert')
const { once } = require('node:events')
const mqtt = require('mqtt')

const url = process.argv[2]
let checks = 0

function check (got, expected, what) {
  assert.deepStrictEqual(got, expected, what)
  checks += 1
}

async function connect (clientId, options = {}) {
  const client = mqtt.connect(url, { protocolVersion: 5, clientId, reconnectPeriod: 0, ...options })
  const messages = []
  const waiting = []
  client.on('message', (topic, payload, packet) => {
    const message = { topic, payload: payload.toString(), packet }
    const next = waiting.shift()
    if (next) next(message)
    else messages.push(message)
  })
  client.next = async () => messages.shift() ?? new Promise(resolve => waiting.push(resolve))
  const [connack] = await once(client, 'connect')
  client.connack = connack
  return client
}

async function sessions () {
  const wanted = { clean: true, properties: { sessionExpiryInterval: 1000 } }
  const first = await connect('js-session', wanted)
  check(first.connack.sessionPresent, false, 'no session yet')
  await first.subscribeAsync('js/#', { qos: 1 })
  await first.endAsync()
  const other = await connect('js-other')
  for (let number = 0; number < 10; number++) await other.publishAsync('js/x', String(number), { qos: 1 })
  const again = await connect('js-session', { ...wanted, clean: false })
  check(again.connack.sessionPresent, true, 'the session is there')
  for (let number = 0; number < 10; number++) check((await again.next()).payload, String(number), 'all in order')
  await again.endAsync()
  await other.endAsync()
}

async function passedOn () {
  const publisher = await connect('js-publisher')
  const subscriber = await connect('js-subscriber', { properties: { topicAliasMaximum: 4, receiveMaximum: 2 } })
  const [granted] = await subscriber.subscribeAsync(
    { 'js-p/#': { qos: 1, nl: true, rap: true, rh: 0 } }, { properties: { subscriptionIdentifier: 5 } })
  check(granted.qos, 1, 'granted')
  for (let round = 0; round < 3; round++) {
    await publisher.publishAsync('js-p/x', 'payload', {
      qos: 1,
      properties: {
        payloadFormatIndicator: true,
        messageExpiryInterval: 1000,
        contentType: 'text/plain',
        responseTopic: 're/ply',
        correlationData: Buffer.from([0, 255]),
        topicAlias: 1,
        userProperties: { a: ['1', '2'], b: '3' }
      }
    })
    // From the second round on the broker sends the alias alone.
    const { topic, packet } = await subscriber.next()
    check(topic, 'js-p/x', 'topic')
    const got = packet.properties
    check(got.payloadFormatIndicator, true, 'payload format')
    check(got.contentType, 'text/plain', 'content type')
    check(got.responseTopic, 're/ply', 'response topic')
    check([...got.correlationData], [0, 255], 'correlation data')
    check({ ...got.userProperties }, { a: ['1', '2'], b: '3' }, 'user properties')
    check(got.subscriptionIdentifier, 5, 'identifier')
    check(got.topicAlias, 1, 'alias')
    assert(got.messageExpiryInterval >= 990 && got.messageExpiryInterval <= 1000, 'what is left of the expiry')
  }
  await subscriber.publishAsync('js-p/x', 'mine', { qos: 1 })
  await publisher.publishAsync('js-p/x', 'theirs', { qos: 1, retain: true })
  const { payload, packet } = await subscriber.next()
  check([payload, packet.retain], ['theirs', true], "not one's own, with RETAIN as published")
  await publisher.publishAsync('js-p/x', '', { qos: 1, retain: true })
  await publisher.endAsync()
  await subscriber.endAsync()
}

async function ends () {
  const first = await connect('js-same')
  const told = once(first, 'disconnect')
  const second = await connect('js-same')
  check((await told)[0].reasonCode, 0x8e, 'taken over')
  await second.endAsync()
  const nameless = await connect('')
  assert(nameless.connack.properties.assignedClientIdentifier, 'an id is assigned')
  await nameless.endAsync()
  const method = { properties: { authenticationMethod: 'SCRAM-SHA-1' } }
  const refused = mqtt.connect(url, { protocolVersion: 5, clientId: 'js-auth', reconnectPeriod: 0, ...method })
  const [error] = await once(refused, 'error')
  check(error.code, 0x8c, 'bad authentication method')
  refused.end(true)
}

async function main () {
  for (const part of [sessions, passedOn, ends]) await part()
  console.log('ok', checks)
}

setTimeout(() => { throw new Error('nothing came') }, 40000).unref()
main().catch(error => {
  console.error(error)
  process.exit(1)
})
