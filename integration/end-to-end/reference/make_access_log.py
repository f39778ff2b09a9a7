#!/usr/bin/env python3
"""Writes the access log that ships with the examples: some 20,000 lines from 20 minutes.

Four virtual servers write into one log, each in its own format and time zone:

    www    Combined, +0100   pages, search, shop; /downloads/
    cdn    Common,   -0800   /static/
    api    Common,   +0000   /api/
    blog   Combined, +0530   /blog/

The twenty minutes lie around midnight UTC at the end of 29 February 2024, so servers disagree about
day and month. Clients come in visits whose rate swells and ebbs with a few bursts; some pause for
more than five minutes. A line bears the time at which its request began, to the second, and is
written when the request ended: lines are out of order by up to 9 s, save a few downloads that took
minutes. About 0.3 % of the lines are malformed.

The same seed writes the same log; the shipped one is
    make_access_log.py --output ../../../api/hurtig/examples/data/access.log.gz
"""

import argparse
import gzip
import math
import zlib
from collections import namedtuple
from datetime import datetime, timedelta, timezone

from dice import Dice, Weighted, zipf

START = datetime(2024, 2, 29, 23, 50, tzinfo=timezone.utc)
LENGTH_S = 20 * 60
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
VISITS = 600
LONGEST_ORDINARY_REQUEST_S = 8.0
MALFORMED_SHARE = 0.003
SLOW_DOWNLOADS = [(95, 140), (210, 260), (330, 95), (420, 410), (545, 180), (640, 75), (700, 330)]
"""When requests began that took minutes, and for how long, in seconds. The fourth and the last are
all that their clients ever did, so they are late even for sessions with a gap of five minutes."""

Server = namedtuple("Server", "name zone_minutes combined")
WWW, CDN = Server("www", 60, True), Server("cdn", -480, False)
API, BLOG = Server("api", 0, False), Server("blog", 330, True)

PAGES = zipf(
    ["/", "/search", "/products", "/products/desk-lamp", "/products/standing-desk", "/cart",
     "/products/office-chair", "/products/monitor-arm", "/checkout", "/account/login",
     "/products/whiteboard", "/account/orders", "/contact", "/about", "/help/returns",
     "/products/caf%C3%A9-table", "/press"], 0.9)
POSTS = zipf(
    ["/blog/", "/blog/feed.xml", "/blog/2024/leap-day", "/blog/2024/how-we-pack",
     "/blog/2023/desk-height", "/blog/about"], 1.0)
ASSETS = zipf(
    ["/static/css/site.css", "/static/js/app.js", "/static/img/logo.svg", "/static/fonts/inter.woff2",
     "/static/img/hero.webp", "/static/js/vendor.js", "/static/img/desk.webp",
     "/static/img/chair.webp", "/favicon.ico"], 0.7)
CALLS = zipf(
    ["/api/v1/cart", "/api/v1/stock", "/api/v1/events", "/api/v1/recommendations", "/api/v1/session"], 0.9)
PROBES = ["/wp-login.php", "/.env", "/robots.txt"]
HEALTH = "/api/health"
DOWNLOAD = "/downloads/catalogue-2024.pdf"

SEARCHES = ["desk", "lamp", "standing+desk", "chair%20black", r"\"desk lamp\"".replace(" ", "+"), "caf%C3%A9", r"\xc3\xa9tag\xc3\xa8re"]
REFERERS = Weighted({
    "-": 5, "https://www.example.com/": 6, "https://search.example/?q=standing+desk": 3,
    r"https://search.example/?q=\"desk lamp\"": 2, "https://news.example/item?id=39554242": 1,
    r"android-app://com.example.reader/a\\b": 0.3,
})
AGENTS = Weighted({
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36": 10,
    "Mozilla/5.0 (X11; Linux x86_64; rv:123.0) Gecko/20100101 Firefox/123.0": 4,
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_3_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.3.1 Mobile/15E148 Safari/604.1": 7,
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.6261.64 Mobile Safari/537.36": 6,
    r"Mozilla/5.0 (compatible; \"Reader\"/2.1; +https://reader.example/bot)": 1,
    "MünchenBrowser/2.1 (Wetterstein; de_DE)": 0.5,
    "-": 0.3,
})

Client = namedtuple("Client", "address user agent")
Entry = namedtuple("Entry", "ended text")


class AccessLog:
    def __init__(self, dice):
        self.dice, self.entries = dice, []

    # --- traffic -------------------------------------------------------------------------------

    def generate(self):
        clients = [self.client() for _ in range(380)]
        for _ in range(VISITS):
            self.visit(self.dice.choice(clients), self.busy_moment())
        for client in clients[:25]:
            self.visit_pause_and_visit(client)
        self.crawler(Client("crawl-17.bot.example", "-", r"\"Crawler\"/1.0 (+https://bot.example)"), 2.6)
        self.crawler(Client("2001:db8:feed::c0de", "-", "Feedfetcher/3.2"), 11.0)
        self.health_checks(Client("192.0.2.250", "-", "-"))
        self.slow_downloads(clients)
        self.entries.sort()
        return self.with_malformed_lines([entry.text for entry in self.entries])

    def client(self):
        dice = self.dice
        if dice.chance(0.18):
            address = f"2001:db8:{dice.integer(0, 0xffff):x}:{dice.integer(0, 0xfff):x}::{dice.integer(1, 0xffff):x}"
        else:
            address = dice.choice(["192.0.2.", "198.51.100.", "203.0.113."]) + str(dice.integer(1, 249))
        user = dice.choice(["alice", "bob", "jürgen", "eve@example.com"]) if dice.chance(0.04) else "-"
        return Client(address, user, AGENTS.draw(dice))

    def busy_moment(self):
        """A moment at which a visit begins: a slow swell, three bursts, by rejection."""
        while True:
            at = self.dice.between(-60, LENGTH_S - 20)
            rate = 1.0 + 0.5 * math.sin(2 * math.pi * (at - 120) / LENGTH_S)
            rate += sum(1.6 for burst in (260, 690, 1010) if burst <= at < burst + 45)
            if self.dice.chance(rate / 3.1):
                return at

    def visit(self, client, at):
        """Pages with what they load, some seconds apart; returns when it ended."""
        referer, blog_reader = REFERERS.draw(self.dice), self.dice.chance(0.15)
        for _ in range(1 + int(self.dice.exponential(5.0))):
            page = self.page(client, at, referer, blog_reader)
            self.what_a_page_loads(client, at)
            referer = "https://www.example.com" + page
            at += 1.0 + self.dice.exponential(14.0)
        return at

    def page(self, client, at, referer, blog_reader):
        dice = self.dice
        path = (POSTS if blog_reader else PAGES).draw(dice)
        if path == "/search":
            path += "?q=" + dice.choice(SEARCHES) + ("&page=2" if dice.chance(0.1) else "")
        method = "POST" if path in ("/checkout", "/account/login") and dice.chance(0.5) else "GET"
        status = Weighted({200: 90, 304: 4, 302: 3, 404: 2, 500: 0.6, 503: 0.4}).draw(dice)
        self.request(BLOG if blog_reader else WWW, client, at, method, path, status, 6500, referer)
        return path

    def what_a_page_loads(self, client, at):
        dice = self.dice
        for _ in range(dice.integer(0, 7)):
            status = Weighted({200: 60, 304: 38, 404: 1, 206: 1}).draw(dice)
            self.request(CDN, client, at + dice.between(0.1, 1.5), "GET", ASSETS.draw(dice), status, 21000)
        for _ in range(dice.integer(0, 3)):
            status = Weighted({200: 80, 204: 12, 401: 4, 429: 2, 502: 2}).draw(dice)
            method = dice.choice(["GET", "GET", "GET", "POST", "PUT", "DELETE"])
            self.request(API, client, at + dice.between(0.2, 3.0), method, CALLS.draw(dice), status, 700)

    def visit_pause_and_visit(self, client):
        """Two or three visits of one client, more than five minutes apart."""
        at = self.dice.between(0, 200)
        while at < LENGTH_S:
            at = self.visit(client, at) + self.dice.between(301, 480)

    def crawler(self, client, pause_s):
        at = self.dice.between(0, 5)
        while at < LENGTH_S:
            dice = self.dice
            if dice.chance(0.05):
                self.request(WWW, client, at, dice.choice(["GET", "HEAD"]), dice.choice(PROBES), 404, 300)
            else:
                server, paths = (BLOG, POSTS) if dice.chance(0.4) else (WWW, PAGES)
                self.request(server, client, at, "GET", paths.draw(dice), 200, 6500)
            at += pause_s * dice.between(0.7, 1.3)

    def health_checks(self, client):
        for at in range(2, LENGTH_S, 5):
            self.request(API, client, at, "GET", HEALTH, 200, 15)

    def slow_downloads(self, clients):
        for number, (at, duration) in enumerate(SLOW_DOWNLOADS):
            client = self.dice.choice(clients)
            if duration > 300:
                client = client._replace(address=f"203.0.113.{251 + number % 4}")
            size = self.dice.integer(20, 60) * 1_000_003
            self.write(WWW, client, at, duration, "GET", DOWNLOAD, 200, str(size), "https://www.example.com/press")

    # --- lines ---------------------------------------------------------------------------------

    def request(self, server, client, at, method, path, status, typical_size, referer="-"):
        if not 0 <= at < LENGTH_S:
            return
        dice = self.dice
        mean = 1.8 if dice.chance(0.04) else 0.12
        duration = min(dice.exponential(mean), LONGEST_ORDINARY_REQUEST_S)
        if method == "HEAD" or status in (204, 302, 304):
            size = "-"
        else:
            size = str(asset_size(path) if server is CDN and status == 200
                       else int(typical_size * dice.between(0.3, 1.8)))
        self.write(server, client, at, duration, method, path, status, size, referer)

    def write(self, server, client, at, duration, method, path, status, size, referer):
        protocol = "HTTP/2.0" if server is CDN else "HTTP/1.1"
        text = (f"{client.address} - {client.user} [{clock(at, server.zone_minutes)}] "
                f'"{method} {path} {protocol}" {status} {size}')
        if server.combined:
            text += f' "{referer}" "{client.agent}"'
        self.entries.append(Entry(at + duration, text))

    def with_malformed_lines(self, texts):
        """The lines with malformed ones between them, each kind in turn, each made from a good line."""
        written, kind = [], 0
        for text in texts:
            written.append(text.encode("utf-8"))
            if self.dice.chance(MALFORMED_SHARE):
                written.append(MALFORMED[kind % len(MALFORMED)](text).encode("utf-8", "surrogateescape"))
                kind += 1
        return written


def asset_size(path):
    """Static files always have the same size."""
    return 900 + zlib.crc32(path.encode("utf-8")) % 60_000


def clock(at, zone_minutes):
    local = START + timedelta(seconds=int(at), minutes=zone_minutes)
    sign, zone = "-" if zone_minutes < 0 else "+", abs(zone_minutes)
    return (f"{local.day:02}/{MONTHS[local.month - 1]}/{local.year}:{local:%H:%M:%S} "
            f"{sign}{zone // 60:02}{zone % 60:02}")


def with_date(text, date):
    return text[: text.index("[") + 1] + date + text[text.index("]"):]


def with_request(text, request):
    start = text.index('"')
    return text[: start + 1] + request + text[text.index('" ', start):]


def with_status(text, status):
    head, rest = text.split(' HTTP/', 1)
    protocol, _, tail = rest.split(" ", 2)
    return f"{head} HTTP/{protocol} {status} {tail}"


MALFORMED = [
    lambda text: text[: len(text) // 2],
    lambda text: "",
    lambda text: with_date(text, "30/Feb/2024:23:55:00 +0000"),
    lambda text: text.replace('"', "", 1),
    lambda text: "\x16\x03\x01\x02" + "".join(chr(0xDC80 + i * 7 % 128) for i in range(40)),
    lambda text: with_status(text, "999"),
    lambda text: with_request(text, "-"),
    lambda text: with_date(text, "01/Mar/2024:24:00:00 +0100"),
    lambda text: text[:20],
    lambda text: with_request(text, r"GET /\xff\udce4 HTTP/1.1".replace(r"\udce4", "\udce4")),
    lambda text: text.replace(" - ", " ", 1),
    lambda text: with_date(text, "2024-03-01T00:01:02Z"),
    lambda text: text + ' "-"' if not text.endswith('"') else text + " extra",
    lambda text: with_request(text, "GET /search?q=desk lamp HTTP/1.1"),
    lambda text: "   ",
    lambda text: with_date(text, "29/Feb/2023:23:58:00 +0000"),
    lambda text: with_status(text, "20"),
    lambda text: text.replace("[", "", 1).replace("]", "", 1),
    lambda text: "AH00163: Apache/2.4.58 configured -- resuming normal operations",
    lambda text: with_date(text, "29/Fev/2024:23:59:10 +0000"),
    lambda text: text.replace(" ", "\t"),
    lambda text: with_request(text, "GET /"),
    lambda text: text + " " + text,
    lambda text: with_date(text, "29/Feb/2024:23:59:10"),
]
"""Ways to spoil a line, in the order in which they are used."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, metavar="FILE", help="file to write; compressed if it ends in .gz")
    parser.add_argument("--seed", type=int, default=2024, help="default 2024")
    options = parser.parse_args()
    content = b"".join(line + b"\n" for line in AccessLog(Dice(options.seed)).generate())
    if options.output.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    with open(options.output, "wb") as file:
        file.write(content)


if __name__ == "__main__":
    main()
