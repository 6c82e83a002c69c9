"""gmqtt holds the broker to MQTT 5. Prints "ok" and the number of checks; any failure is an exception."""

import asyncio
import sys

import gmqtt
from gmqtt.mqtt.constants import MQTTv50

PORT = int(sys.argv[1])
LIMIT = 20
checks = 0


def check(got, expected, what):
    global checks
    assert got == expected, f"{what}: got {got!r}, expected {expected!r}"
    checks += 1


class Client:
    @classmethod
    async def connect(cls, name, clean=True, will=None, **wanted):
        self = cls()
        self.messages, self.answers, self.ends = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.client = gmqtt.Client(name, clean_session=clean, will_message=will, **wanted)
        self.client.set_config({"reconnect_retries": -2})
        self.present = asyncio.get_running_loop().create_future()
        self.client.on_connect = lambda client, flags, rc, props: self.present.set_result(flags & 1 == 1)
        self.client.on_message = self.on_message
        self.client.on_subscribe = lambda client, mid, qos, props: self.answers.put_nowait(qos)
        self.client.on_unsubscribe = lambda client, mid, qos: self.answers.put_nowait(qos)
        self.client.on_disconnect = lambda client, packet, exc=None: self.ends.put_nowait(packet)
        await self.client.connect("127.0.0.1", PORT, version=MQTTv50)
        self.present = await asyncio.wait_for(self.present, LIMIT)
        return self

    def on_message(self, client, topic, payload, qos, props):
        self.messages.put_nowait((topic, payload, qos, props))
        return 0

    async def subscribe(self, *subscriptions, **props):
        self.client.subscribe(list(subscriptions), **props)
        return list(await asyncio.wait_for(self.answers.get(), LIMIT))

    async def message(self):
        return await asyncio.wait_for(self.messages.get(), LIMIT)

    async def end(self, reason=0, **props):
        await self.client.disconnect(reason_code=reason, **props)


async def sessions():
    first = await Client.connect("g-session", session_expiry_interval=1000)
    check(first.present, False, "no session yet")
    check(await first.subscribe(gmqtt.Subscription("g/#", qos=1)), [1], "granted")
    await first.end()
    other = await Client.connect("g-other")
    for number in range(10):
        other.client.publish("g/x", str(number), qos=1)
    marker = await Client.connect("g-marker")
    await marker.subscribe(gmqtt.Subscription("g/end", qos=1))
    other.client.publish("g/end", "end", qos=1)
    await marker.message()
    again = await Client.connect("g-session", clean=False, session_expiry_interval=1000)
    check(again.present, True, "the session is there")
    got = [(await again.message())[1] for _ in range(11)]
    check(got, [b"%d" % n for n in range(10)] + [b"end"], "all in order")
    for client in (again, other, marker):
        await client.end()


async def passed_on():
    publisher = await Client.connect("g-publisher")
    subscriber = await Client.connect("g-subscriber", topic_alias_maximum=3)
    wanted = gmqtt.Subscription("q/#", qos=1, no_local=True, retain_as_published=True)
    await subscriber.subscribe(wanted, subscription_identifier=9)
    users = [("b", "1"), ("a", "2"), ("b", "3")]
    publisher.client.publish(
        "q/x", "payload", qos=1, content_type="text/plain", response_topic="re/ply", correlation_data=b"id",
        message_expiry_interval=1000, user_property=users, payload_format_id=1,
    )
    topic, payload, qos, props = await subscriber.message()
    check((topic, payload, qos), ("q/x", b"payload", 1), "the message")
    check(props["content_type"], ["text/plain"], "content type")
    check(props["response_topic"], ["re/ply"], "response topic")
    check(props["correlation_data"], [b"id"], "correlation data")
    check(props["user_property"], users, "user properties in order")
    check(props["payload_format_id"], [1], "payload format")
    check(props["subscription_identifier"], [9], "identifier")
    assert 990 <= props["message_expiry_interval"][0] <= 1000, "what is left of the expiry"
    subscriber.client.publish("q/x", "mine", qos=1)
    publisher.client.publish("q/x", "theirs", qos=1, retain=True)
    _, payload, _, props = await subscriber.message()
    check((payload, props["retain"]), (b"theirs", True), "not one's own, with RETAIN as published")
    publisher.client.publish("q/x", "", qos=1, retain=True)
    await publisher.end()
    await subscriber.end()


async def taken_over():
    first = await Client.connect("g-same")
    second = await Client.connect("g-same")
    await asyncio.wait_for(first.ends.get(), LIMIT)
    await second.end()


async def main():
    for part in (sessions, passed_on, taken_over):
        await part()
    print("ok", checks)


asyncio.run(main())
