#!/usr/bin/env python3
"""Temperature jump alerts: readings that differ much from the sensor's last one.

Input: sensor readings, id,timestamp_ms,temperature (see records.py for what is malformed).
The readings of each sensor are taken in the order of the input (--order arrival, the default) or by
timestamp, equal ones in the order of the input (--order event). A reading alerts if the absolute
difference between its temperature and that of the reading before it is greater than the threshold
(default 1.7), computed with 64-bit floats. The first reading of a sensor never alerts. Every
reading, alerting or not, becomes the last one.

Output: sensor, time, temperature, absolute difference.
"""

import records


def alerts(readings, threshold):
    last = {}
    for reading in readings:
        if reading.sensor in last:
            difference = abs(reading.temperature - last[reading.sensor])
            if difference > threshold:
                yield reading, difference
        last[reading.sensor] = reading.temperature


def main():
    parser = records.argument_parser(__doc__)
    parser.add_argument("--threshold", type=float, default=1.7, help="degrees (default 1.7)")
    parser.add_argument("--order", choices=("arrival", "event"), default="arrival",
                        help="take readings as they come or by timestamp (default arrival)")
    options = parser.parse_args()
    when = records.plain if options.plain else records.iso_millis
    source = records.Records(options.input, records.parse_reading)
    readings = sorted(source, key=lambda reading: reading.time) if options.order == "event" else source
    rows = (
        (reading.sensor, when(reading.time), reading.temperature, difference)
        for reading, difference in alerts(readings, options.threshold)
    )
    records.print_results(rows, source)


if __name__ == "__main__":
    records.run(main)
