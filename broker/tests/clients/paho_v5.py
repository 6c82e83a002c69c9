"""Eclipse Paho holds the broker to MQTT 5. Prints "ok" and the number of checks; any failure is an exception."""

import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PORT = int(sys.argv[1])
LIMIT = 20
checks = 0


def check(got, expected, what):
    global checks
    assert got == expected, f"{what}: got {got!r}, expected {expected!r}"
    checks += 1


def properties(kind, **values):
    made = Properties(kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Client:
    def __init__(self, name="", clean=True, keepalive=60, **wanted):
        self.connected, self.messages = queue.Queue(), queue.Queue()
        self.answers, self.ends = queue.Queue(), queue.Queue()
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        self.client.on_connect = lambda c, u, flags, reason, p: self.connected.put((flags, reason, p))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.answers.put(reasons)
        self.client.on_unsubscribe = lambda c, u, mid, reasons, p: self.answers.put(reasons)
        self.client.on_disconnect = lambda c, u, flags, reason, p: self.ends.put((flags, reason))
        self.client.connect(
            "127.0.0.1", PORT, keepalive, clean_start=clean, properties=properties(PacketTypes.CONNECT, **wanted)
        )
        self.client.loop_start()
        self.flags, self.reason, self.said = self.connected.get(timeout=LIMIT)

    def subscribe(self, *filters, **values):
        made = properties(PacketTypes.SUBSCRIBE, **values)
        self.client.subscribe([(name, SubscribeOptions(**options)) for name, options in filters], properties=made)
        return [reason.value for reason in self.answers.get(timeout=LIMIT)]

    def unsubscribe(self, *filters):
        self.client.unsubscribe(list(filters))
        return [reason.value for reason in self.answers.get(timeout=LIMIT)]

    def publish(self, topic, payload, qos=1, retain=False, **values):
        made = properties(PacketTypes.PUBLISH, **values)
        info = self.client.publish(topic, payload, qos, retain, properties=made)
        info.wait_for_publish(LIMIT)
        assert info.is_published(), "no PUBACK"

    def message(self):
        return self.messages.get(timeout=LIMIT)

    def quiet(self, other, topic):
        """What came before a message that is sent now is here before it; nothing may be."""
        other.publish(topic, "mark")
        check(self.message().payload, b"mark", "nothing before the mark")

    def end(self, **values):
        made = properties(PacketTypes.DISCONNECT, **values)
        # The broker closes when it is done; a DISCONNECT on its way would meet the next CONNECT of the same client.
        open_still = self.client.socket().dup()
        self.client.disconnect(properties=made if values else None)
        self.ends.get(timeout=LIMIT)
        self.client.loop_stop()
        open_still.settimeout(LIMIT)
        while open_still.recv(4096):
            pass
        open_still.close()


def sessions():
    nameless = Client()
    assert nameless.said.AssignedClientIdentifier, "an id is assigned"
    nameless.end()
    first = Client("session", SessionExpiryInterval=1000)
    check(first.flags.session_present, False, "no session yet")
    check(first.subscribe(("s/+", {"qos": 1})), [1], "granted")
    first.end()
    other = Client("other")
    for number in range(5):
        other.publish("s/x", str(number))
    again = Client("session", clean=False, SessionExpiryInterval=1000)
    check(again.flags.session_present, True, "the session is there")
    check([again.message().payload for _ in range(5)], [b"0", b"1", b"2", b"3", b"4"], "all in order")
    again.end(SessionExpiryInterval=0)
    last = Client("session", clean=False)
    check(last.flags.session_present, False, "the session has ended with DISCONNECT")
    taker = Client("session")
    check(last.ends.get(timeout=LIMIT)[1].value, 0x8E, "taken over")
    taker.end()
    other.end()


def passed_on():
    publisher, subscriber = Client("publisher"), Client("subscriber")
    subscriber.subscribe(("p/#", {"qos": 1}), SubscriptionIdentifier=7)
    subscriber.subscribe(("p/+", {"qos": 0}), SubscriptionIdentifier=300)
    users = [("b", "1"), ("a", "2"), ("b", "3")]
    publisher.publish(
        "p/x", "payload", PayloadFormatIndicator=1, ContentType="text/plain", ResponseTopic="re/ply",
        CorrelationData=b"\x00\xff", MessageExpiryInterval=1000, UserProperty=users, TopicAlias=1,
    )
    got = subscriber.message()
    check((got.topic, got.payload, got.qos), ("p/x", b"payload", 1), "the message")
    check(got.properties.UserProperty, users, "user properties in order")
    check(got.properties.PayloadFormatIndicator, 1, "payload format")
    check(got.properties.ContentType, "text/plain", "content type")
    check(got.properties.ResponseTopic, "re/ply", "response topic")
    check(got.properties.CorrelationData, b"\x00\xff", "correlation data")
    assert 990 <= got.properties.MessageExpiryInterval <= 1000, "what is left of the expiry"
    check(sorted(got.properties.SubscriptionIdentifier), [7, 300], "all identifiers")
    publisher.publish("", "by alias", TopicAlias=1)
    check((subscriber.message().topic), "p/x", "the alias's topic")
    check(subscriber.unsubscribe("p/#", "p/none"), [0, 0x11], "reasons of UNSUBACK")
    publisher.end()
    subscriber.end()


def options():
    me, other = Client("me", TopicAliasMaximum=5), Client("other")
    me.subscribe(("o/#", {"qos": 1, "noLocal": True, "retainAsPublished": True}))
    me.publish("o/x", "mine")
    other.publish("o/x", "theirs", retain=True)
    got = me.message()
    check((got.payload, got.retain), (b"theirs", True), "not one's own, with RETAIN as published")
    never = {"qos": 1, "retainHandling": SubscribeOptions.RETAIN_DO_NOT_SEND}
    me.subscribe(("o/x", never))
    me.quiet(other, "o/y")
    new = {"qos": 1, "retainHandling": SubscribeOptions.RETAIN_SEND_IF_NEW_SUB}
    me.subscribe(("o/x", new))
    me.quiet(other, "o/y")
    me.subscribe(("+/x", new))
    check(me.message().payload, b"theirs", "retained, because the subscription is new")
    other.publish("o/x", "", retain=True)
    me.end()
    other.end()


def limits():
    small = Client("small", ReceiveMaximum=3, MaximumPacketSize=100)
    small.subscribe(("l/#", {"qos": 1}))
    other = Client("other")
    other.publish("l/x", "x" * 200)
    for number in range(20):
        other.publish("l/x", str(number))
    check([small.message().payload for _ in range(20)], [b"%d" % n for n in range(20)], "all but the large one")
    small.end()
    other.end()
    asked = Client("asked", RequestResponseInformation=1)
    check(asked.said.ResponseInformation, "responses/asked", "response information")
    asked.end()


def shared():
    members = [Client(f"member-{n}") for n in range(2)]
    for member in members:
        check(member.subscribe(("$share/g/h", {"qos": 1})), [1], "a member")
    other = Client("other")
    for number in range(40):
        other.publish("h", str(number))
    got = []
    while len(got) < 40:
        for member in members:
            while not member.messages.empty():
                got.append(int(member.messages.get().payload))
    check(sorted(got), list(range(40)), "each to one")
    for client in [*members, other]:
        client.end()


for part in (sessions, passed_on, options, limits, shared):
    part()
print("ok", checks)
