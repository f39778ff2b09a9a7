#!/usr/bin/env python3
"""Freezing readings: those below 32 degrees Fahrenheit, as the side output of a program that
passes every reading on unchanged.

Input: sensor readings, id,timestamp_ms,temperature (see records.py for what is malformed).
--stream alerts (default) prints the side output: readings with a temperature < 32, not those of
exactly 32. --stream readings prints the main output: all well-formed readings, freezing ones too.

Output: sensor, time, temperature.
"""

import records

FREEZING = 32.0


def main():
    parser = records.argument_parser(__doc__)
    parser.add_argument("--stream", choices=("alerts", "readings"), default="alerts",
                        help="which output of the program to print (default alerts)")
    options = parser.parse_args()
    when = records.plain if options.plain else records.iso_millis
    source = records.Records(options.input, records.parse_reading)
    rows = (
        (reading.sensor, when(reading.time), reading.temperature)
        for reading in source
        if options.stream == "readings" or reading.temperature < FREEZING
    )
    records.print_results(rows, source)


if __name__ == "__main__":
    records.run(main)
