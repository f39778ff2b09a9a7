#!/usr/bin/env python3
"""Alerts for sensors whose temperature has not fallen for one second after it rose.

Input: sensor readings, id,timestamp_ms,temperature (see records.py for what is malformed).
For each sensor, reading by reading, against the reading before it:
    - a fall deletes the pending timer, if any;
    - a rise registers an event-time timer at the reading's time + 1000 ms if none is pending;
    - an equal temperature, and the first reading of a sensor, change nothing.
When a timer fires, it alerts and is no longer pending; the next rise registers another one. At the
end of the input event time ends, so every pending timer fires.

The order of readings and the moment at which timers fire:
    --order event (default)
        Readings in the order of their timestamps, equal ones in the order of the input. Before a
        reading with time t is looked at, event time is t - 1: timers before t have fired, a timer
        at t itself has not (a fall at exactly rise + 1000 ms still deletes it). This does not depend
        on other sensors nor on how often watermarks are sent: it is what a program computes that
        holds readings back until the watermark, or that treats a pending timer before the time of
        the reading at hand as elapsed.
    --order arrival
        Readings in the order of the input. After each well-formed line the watermark becomes
        (largest time so far, of any sensor) - bound - 1 ms, where the bound is
        --out-of-orderness-ms (default 0), and fires the timers that are not after it. On an
        in-order file this differs from --order event only where the first reading of any sensor
        after the time of a timer is one of the timer's own sensor: here it is looked at before the
        timer fires, so a fall deletes the timer and a rise does not register another one.

Output: sensor, time of the timer that fired (rise + 1000 ms).
"""

from collections import defaultdict

import records

RISING_MS = 1000


class Sensor:
    """The keyed state of one sensor: its last temperature and its pending timer."""

    def __init__(self):
        self.last, self.timer = None, None

    def read(self, reading):
        if self.last is not None and reading.temperature < self.last:
            self.timer = None
        elif self.last is not None and reading.temperature > self.last and self.timer is None:
            self.timer = reading.time + RISING_MS
        self.last = reading.temperature

    def fire(self, event_time):
        """The time of the pending timer if it is not after the event time."""
        fired = None
        if self.timer is not None and self.timer <= event_time:
            fired, self.timer = self.timer, None
        return fired


def alerts_by_event_time(readings):
    by_sensor = defaultdict(list)
    for reading in readings:
        by_sensor[reading.sensor].append(reading)
    for name, own in by_sensor.items():
        sensor = Sensor()
        for reading in sorted(own, key=lambda reading: reading.time):
            yield name, sensor.fire(reading.time - 1)
            sensor.read(reading)
        yield name, sensor.fire(float("inf"))


def alerts_by_arrival(readings, bound_ms):
    watermark, sensors = records.Watermark(bound_ms), defaultdict(Sensor)
    for reading in readings:
        sensors[reading.sensor].read(reading)
        watermark.advance(reading.time)
        for name, sensor in sensors.items():
            yield name, sensor.fire(watermark.time)
    for name, sensor in sensors.items():
        yield name, sensor.fire(float("inf"))


def main():
    parser = records.argument_parser(__doc__)
    parser.add_argument("--order", choices=("event", "arrival"), default="event",
                        help="order of readings and timers, as above (default event)")
    parser.add_argument("--out-of-orderness-ms", type=records.natural, default=0, metavar="MS",
                        help="bound of the watermark with --order arrival (default 0)")
    options = parser.parse_args()
    when = records.plain if options.plain else records.iso_millis
    source = records.Records(options.input, records.parse_reading)
    if options.order == "event":
        alerts = alerts_by_event_time(source)
    else:
        alerts = alerts_by_arrival(source, options.out_of_orderness_ms)
    records.print_results(((name, when(fired)) for name, fired in alerts if fired is not None), source)


if __name__ == "__main__":
    records.run(main)
