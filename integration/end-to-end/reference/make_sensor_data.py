#!/usr/bin/env python3
"""Writes the sensor data that ships with the examples: sensors.csv, smoke.csv, filter_switches.csv.

Ten sensors report about every 100 ms for 20 s, in degrees Fahrenheit with one decimal. Most wander
about room temperature; sensor_3 and sensor_8 hover around freezing; sensor_5 and sensor_9 heat up
beyond 100 and cool down again; every sensor now and then jumps, and now and then rises steadily for
more than a second. Readings are out of order by less than 1 s, of one sensor too. A few lines of
each file are malformed. No two readings of a sensor have the same timestamp. The smoke level
changes every second or two, the switches come every two seconds; both files are in order.

The same seed writes the same files; the shipped ones are
    make_sensor_data.py --output ../../../api/hurtig/examples/data
"""

import argparse
import os

from dice import Dice

START_MS = 1_709_294_400_000  # 2024-03-01T12:00:00Z
LENGTH_MS = 20_000
PERIOD_MS = 100
DELAY_MS = 1000
SENSORS = [f"sensor_{number}" for number in range(1, 11)]
BASE = {"sensor_3": 33.0, "sensor_8": 31.5, "sensor_5": 92.0, "sensor_9": 95.0}

MALFORMED_READINGS = [
    b"", b"sensor_1,1709294401000", b"sensor_2,1709294402000,71.3,F", b",1709294403000,70.2",
    b"sensor_4,-1,66.0", b"sensor_5,2024-03-01T12:00:05Z,93.1", b"sensor_6,1709294406000,warm",
    b"sensor_7,1709294407000,NaN", b"sensor_8,1709294408000,inf", b"sensor_9,1709294409000,",
    b"sensor_10;1709294410000;64.4", b"sensor_1,1709294411000.5,70.0", b"sensor_2, 1709294412000,71.0",
    b"sensor_3,+1709294413000,33.3", b"sens\xf8r_4,1709294414000,66.6", b"sensor_5,1709294415000,1e999",
    b"id,timestamp_ms,temperature", b"sensor_6,17092944160",
]
MALFORMED_SMOKE = [b"1709294404000,MEDIUM", b"1709294409000", b"HIGH,1709294413000", b""]
MALFORMED_SWITCHES = [b"sensor_1,1709294406000", b"sensor_2,1709294407000,-500", b"sensor_3,soon,1000"]


def readings(dice):
    """(time, id, temperature) of all sensors, each in order."""
    for number, sensor in enumerate(SENSORS):
        base = BASE.get(sensor, 62.0 + 1.7 * number)
        temperature, rising = base, 0
        heats = sensor in ("sensor_5", "sensor_9")
        for step in range(LENGTH_MS // PERIOD_MS):
            at = step * PERIOD_MS + number * 7 + dice.integer(0, 40)
            if heats and 60 <= step < 140:
                base += 0.18 if step < 110 else -0.18
            if rising:
                temperature, rising = temperature + dice.between(0.1, 0.5), rising - 1
            elif dice.chance(0.012):
                rising = dice.integer(11, 26)
            elif dice.chance(0.02):
                temperature += dice.choice([-1, 1]) * dice.between(1.8, 6.0)
            else:
                temperature += 0.08 * (base - temperature) + dice.normal(0.0, 0.35)
            yield START_MS + at, sensor, round(temperature, 1)


def sensor_lines(dice):
    delayed = []
    for moment, sensor, temperature in readings(dice):
        delay = dice.between(0, DELAY_MS - 1) if dice.chance(0.25) else dice.between(0, 60)
        delayed.append((moment + delay, f"{sensor},{moment},{temperature:.1f}".encode("utf-8")))
    return spread(dice, MALFORMED_READINGS, [line for _, line in sorted(delayed)])


def smoke_lines(dice):
    levels, at, level = [], dice.integer(0, 900), "LOW"
    while at < LENGTH_MS:
        levels.append(f"{START_MS + at},{level}".encode("utf-8"))
        if dice.chance(0.8):  # otherwise the level is reported again
            level = "HIGH" if level == "LOW" else "LOW"
        at += dice.integer(400, 1500)
    return spread(dice, MALFORMED_SMOKE, levels)


def switch_lines(dice):
    """Switches of some sensors: overlapping, extending, contained, empty, of no known sensor."""
    chosen = [("sensor_2", 500, 3000), ("sensor_7", 1000, 1500), ("sensor_2", 2500, 400), ("sensor_7", 2000, 1500),
              ("sensor_4", 5000, 0), ("sensor_10", 5500, 2000), ("sensor_5", 8000, 4000), ("sensor_11", 9000, 9000),
              ("sensor_2", 10000, 1000), ("sensor_5", 11999, 1000), ("sensor_9", 14000, 250), ("sensor_1", 18000, 60000)]
    return spread(dice, MALFORMED_SWITCHES,
                  [f"{sensor},{START_MS + at},{duration}".encode("utf-8") for sensor, at, duration in chosen])


def spread(dice, malformed, lines):
    """The lines with the malformed ones at random places, in their order."""
    places = sorted(dice.integer(1, len(lines) - 1) for _ in malformed)
    for place, line in reversed(list(zip(places, malformed))):
        lines.insert(place, line)
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder to write the three files to")
    parser.add_argument("--seed", type=int, default=7, help="default 7")
    options = parser.parse_args()
    files = {"sensors.csv": sensor_lines, "smoke.csv": smoke_lines, "filter_switches.csv": switch_lines}
    for number, (name, make) in enumerate(files.items()):
        with open(os.path.join(options.output, name), "wb") as file:
            file.writelines(line + b"\n" for line in make(Dice(options.seed * 10 + number)))


if __name__ == "__main__":
    main()
