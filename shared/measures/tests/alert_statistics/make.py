"""Makes the files beside it: random series, and what an independent batch implementation says of them.

    python make.py ORACLE      # where ORACLE is the reference implementation's oracle.py

A line of a series is {"series", "time", "value"}; expected-*.ndjson are ORACLE's rows (alert-stats, METRICS.md, section 5).
"""
import json, pathlib, random, subprocess, sys

HERE = pathlib.Path(__file__).parent
START = 1_767_600_000_000


def write(name, points):
    (HERE / name).write_text("".join(json.dumps({"series": s, "time": t, "value": v}) + "\n" for s, t, v in points))


def oracle(stat, name, expected, *options):
    command = [sys.executable, sys.argv[1], "alert-stats", "--stat", stat, "--input", HERE / name, "--output", HERE / expected]
    subprocess.run([*command, *options], check=True)


random.seed(20261126)

# rows every 10 s with gaps, one of them longer than the hour
hours = []
for series, level in (("even", 0.0), ("skewed", 1.0)):
    time = START
    for _ in range(600):
        time += 10_000 * random.choice((1, 1, 1, 2, 3)) + (4_500_000 if random.random() < 0.003 else 0)
        hours.append((series, time, round(random.expovariate(2.0) if level else random.gauss(0.3, 0.1), 6)))
write("hours.ndjson", hours)
oracle("p95", "hours.ndjson", "expected-p95.ndjson")

# windows of five minutes, with shifts up and down of one sigma and of three, and a gap
days = []
for series, shift in (("small", 0.1), ("large", -0.3)):
    for n in range(550):
        level = 0.5 + (shift if 380 <= n < 460 else 0.0)
        if not 250 <= n < 270:
            days.append((series, START + n * 300_000, round(random.gauss(level, 0.1), 6)))
write("days.ndjson", days)
oracle("cusum", "days.ndjson", "expected-cusum-up.ndjson")
oracle("cusum", "days.ndjson", "expected-cusum-learned-down.ndjson", "--learned", "--downward")

# hourly rates of ten days: of a Beta distribution, far from any, and without spread
weeks = []
rates = {"beta": lambda: random.betavariate(20, 60), "rare": lambda: 0.9 if random.random() < 0.1 else 0.02, "constant": lambda: 0.25}
for series, draw in rates.items():
    weeks += [(series, START + n * 3_600_000, round(draw(), 6)) for n in range(240)]
write("weeks.ndjson", weeks)
oracle("beta", "weeks.ndjson", "expected-beta.ndjson")
