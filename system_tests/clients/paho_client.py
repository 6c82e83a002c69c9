#!/usr/bin/env python3
"""A foreign MQTT client (Eclipse paho) for the system tests; knows nothing of this project.

Prints one JSON object per line: `{"event": "subscribed", ...}` once it is ready to receive, and the
result last. Exit status 1 when what was asked for did not happen in time.

    subscribe  connects, subscribes, disconnects: leaves a persistent session behind
    collect    connects and receives until --count messages are there
    publish    publishes --count payloads and waits for every acknowledgement
"""

import argparse
import json
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def say(**fields):
    print(json.dumps(fields), flush=True)


class Client:
    """A connected client; raises when the broker refuses or does not answer in time."""

    def __init__(self, options):
        self.options = options
        self.connected = threading.Event()
        self.subscribed = threading.Event()
        self.enough = threading.Event()
        self.received = []
        self.session_present = None
        self.refusal = None
        v5 = options.protocol == "5"
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311,
            **({} if v5 else {"clean_session": options.clean}),
        )
        self.client.max_inflight_messages_set(options.inflight)
        self.client.max_queued_messages_set(0)
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = self.on_subscribe
        self.client.on_message = self.on_message
        arguments = {}
        if v5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if options.clean else 3600
            arguments = {"clean_start": options.clean, "properties": properties}
        self.client.connect(options.host, options.port, keepalive=options.keepalive, **arguments)
        self.client.loop_start()
        self.wait(self.connected, "CONNACK")
        if self.refusal is not None:
            raise RuntimeError(f"the broker refused the connection: {self.refusal}")

    def on_connect(self, _client, _userdata, flags, reason, _properties):
        self.session_present = bool(flags.session_present)
        self.refusal = str(reason) if reason.is_failure else None
        self.connected.set()

    def on_subscribe(self, _client, _userdata, _mid, reasons, _properties):
        failed = [str(reason) for reason in reasons if reason.is_failure]
        if failed:
            self.refusal = failed
        self.subscribed.set()

    def on_message(self, _client, _userdata, message):
        self.received.append(
            {
                "topic": message.topic,
                "payload": message.payload.decode("utf-8", "replace"),
                "qos": message.qos,
                "retain": bool(message.retain),
                "dup": bool(message.dup),
            }
        )
        if len(self.received) >= self.options.count:
            self.enough.set()

    def wait(self, event, what):
        if not event.wait(self.options.timeout):
            raise TimeoutError(f"no {what} within {self.options.timeout} s")

    def subscribe(self):
        self.client.subscribe(self.options.topic, qos=self.options.qos)
        self.wait(self.subscribed, "SUBACK")
        if self.refusal is not None:
            raise RuntimeError(f"the broker refused the subscription: {self.refusal}")
        say(event="subscribed", session_present=self.session_present)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def subscribe(options):
    client = Client(options)
    client.subscribe()
    client.close()
    return {"session_present": client.session_present}


def collect(options):
    client = Client(options)
    if not options.resume:
        client.subscribe()
    complete = client.enough.wait(options.timeout)
    # Anything beyond what was asked for would come now.
    time.sleep(options.linger)
    client.close()
    if not complete:
        say(event="incomplete", received=len(client.received))
    return {
        "session_present": client.session_present,
        "complete": complete,
        "messages": client.received,
    }


def publish(options):
    client = Client(options)
    start = options.first
    receipts = []
    for number in range(start, start + options.count):
        payload = options.payload.replace("{n}", str(number))
        receipts.append(
            client.client.publish(options.topic, payload, qos=options.qos, retain=options.retain)
        )
    deadline = time.monotonic() + options.timeout
    for receipt in receipts:
        receipt.wait_for_publish(max(0.0, deadline - time.monotonic()))
    acknowledged = sum(receipt.is_published() for receipt in receipts)
    client.close()
    return {"acknowledged": acknowledged, "complete": acknowledged == options.count}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=["subscribe", "collect", "publish"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--client-id", required=True)
    parser.add_argument("--protocol", choices=["3.1.1", "5"], default="3.1.1")
    parser.add_argument("--clean", action="store_true")
    parser.add_argument("--resume", action="store_true", help="rely on the session's subscription")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--qos", type=int, default=1)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first payload")
    parser.add_argument("--payload", default="{n}", help="text; {n} becomes the number")
    parser.add_argument("--retain", action="store_true")
    parser.add_argument("--inflight", type=int, default=20)
    parser.add_argument("--keepalive", type=int, default=60)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--linger", type=float, default=0.2)
    options = parser.parse_args()
    action = {"subscribe": subscribe, "collect": collect, "publish": publish}[options.action]
    try:
        result = action(options)
    except (OSError, RuntimeError, TimeoutError) as error:
        say(event="failed", error=str(error))
        return 1
    say(event="result", **result)
    return 0 if result.get("complete", True) else 1


if __name__ == "__main__":
    sys.exit(main())
