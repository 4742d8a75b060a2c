"""A made-up but realistic subscriber file: names from many places, and the flaws that real files have."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from pathlib import Path

FIRST = (
    "Anna Ben Chloé Dmitri Elif Farah Grzegorz Hana Ines José Kofi Léa Mateo Noor Olga Priya Quinn Rosa Søren "
    "Tomás Uma Věra Wanjiru Xin Yusuf Zoë 伟 秀英 さくら 지훈 Ольга Ахмед Μαρία"
).split()
LAST = (
    "Adams Brown Çelik Dupont Eriksson Fernández García Hansen Ivanov Jónsson Kowalski López Müller Nguyễn O'Neill "
    "Papadopoulos Quist Rossi Schmidt Tanaka Usman Varga Wójcik Yılmaz Zhang 王 李 佐藤 김"
).split()
CITIES = "Berlin,Łódź,São Paulo,北京,Reykjavík,Nairobi,Kraków,Lyon,Osaka,Toronto,Zürich,Αθήνα,Ciudad de México".split(
    ","
)
PLANS = ("free", "plus", "business")
HEADER = ("Email", "Name", "City", "Plan", "Status")


@dataclass(frozen=True)
class Sample:
    """Two overlapping files, and the folded addresses that must get a mail: everyone active, once."""

    first: Path
    second: Path
    expected: frozenset[str]


def write_sample(directory: Path, people: int) -> Sample:
    """Files with `people` active persons in all, a fifth of them on both; the same for the same number."""
    chance = random.Random(people)  # noqa: S311 (a sample, no secret)
    addresses = [
        f"person{i}@{chance.choice(('example.com', 'example.net', 'mail.example.org'))}" for i in range(people)
    ]
    cut, overlap = people * 3 // 5, people * 2 // 5
    directory.mkdir(parents=True, exist_ok=True)
    first, second = directory / f"newsletter-{people}.csv", directory / f"customers-{people}.csv"
    _write(first, addresses[:cut], chance)
    _write(second, addresses[overlap:], chance)
    return Sample(first, second, frozenset(addresses))


def _write(path: Path, addresses: list[str], chance: random.Random) -> None:
    """Besides the good rows: other spellings of the same address, people who left, rows that are no use."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number, address in enumerate(addresses):
            row = _row(address, chance)
            writer.writerow(row)
            if number % 50 == 7:
                writer.writerow([address.upper(), *row[1:]])
            if number % 100 == 11:
                writer.writerow([f"left-{path.stem}-{number}@example.com", *row[1:4], "unsubscribed"])
            if number % 500 == 13:
                writer.writerow([chance.choice(("", "nobody", "two@@example.com", "a b@example.com")), *row[1:]])


def _row(address: str, chance: random.Random) -> list[str]:
    name = f"{chance.choice(FIRST)} {chance.choice(LAST)}" if chance.random() > 0.05 else ""
    return [address, name, chance.choice(CITIES), chance.choice(PLANS), "active"]
