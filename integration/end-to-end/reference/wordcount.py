#!/usr/bin/env python3
"""Word count: how often each word occurs in all inputs together.

A word is a maximal run of bytes other than ASCII whitespace (space, tab, LF, VT, FF, CR). Nothing
is folded or trimmed: "Word", "word" and "word," are three words. A line that is not valid UTF-8 is
malformed: it is counted and none of its words are; with --bytes no line is malformed and words are
plain byte strings. An empty line is well formed and has no words.

Output: word, count.

For valid UTF-8 the shell agrees:
    LC_ALL=C tr -s ' \\t\\r\\v\\f' '\\n' < FILE | grep -v '^$' | LC_ALL=C sort | uniq -c
"""

from collections import Counter

import records


def count_words(lines):
    counts = Counter()
    for line in lines:
        counts.update(line.split())  # bytes.split() splits at ASCII whitespace
    return counts


def valid_utf8(line):
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return line


def main():
    parser = records.argument_parser(__doc__)
    parser.add_argument("--bytes", action="store_true", help="count words of lines in any encoding")
    options = parser.parse_args()
    source = records.Records(options.input, (lambda line: line) if options.bytes else valid_utf8)
    records.print_results(((word, count) for word, count in count_words(source).items()), source)


if __name__ == "__main__":
    records.run(main)
