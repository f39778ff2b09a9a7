#!/usr/bin/env python3
"""Average temperature of each sensor in each second.

Input: sensor readings, id,timestamp_ms,temperature (see records.py for what is malformed).
Windows are tumbling, 1 s of event time, aligned to the epoch; a window with readings gives one
result, their exact arithmetic mean rounded to a 64-bit float. No reading is late unless
--out-of-orderness-ms is given: then, after each well-formed line, the watermark is (largest time so
far) - bound - 1 ms, and a reading is dropped if the last millisecond of its window is not after the
watermark as it stood before the line. (The shipped sensors.csv is out of order by less than 1 s, so
a bound of 1000 drops nothing.)

Output: sensor, start of the second, average.
"""

from collections import defaultdict
from fractions import Fraction

import records

SECOND_MS = 1000


def averages(readings, bound_ms):
    watermark, temperatures = records.Watermark(bound_ms), defaultdict(list)
    for reading in readings:
        second = records.window_start(reading.time, SECOND_MS)
        if not watermark.passed_window(second + SECOND_MS):
            temperatures[reading.sensor, second].append(Fraction(reading.temperature))
        watermark.advance(reading.time)
    for (sensor, second), values in temperatures.items():
        yield sensor, second, float(sum(values) / len(values))


def main():
    parser = records.argument_parser(__doc__)
    parser.add_argument("--out-of-orderness-ms", type=records.natural, metavar="MS",
                        help="bound of the watermark (default: infinite, nothing is late)")
    options = parser.parse_args()
    when = records.plain if options.plain else records.iso_millis
    source = records.Records(options.input, records.parse_reading)
    results = averages(source, options.out_of_orderness_ms)
    records.print_results(((sensor, when(second), mean) for sensor, second, mean in results), source)


if __name__ == "__main__":
    records.run(main)
