"""The judge is judged first: cases small enough to be worked out by hand."""

import datetime
import decimal

import pytest

import events
import oracle
import standard

UTC = datetime.timezone.utc
BASE = datetime.datetime(2026, 1, 5, 10, 0, tzinfo=UTC)


def row(at="0s", **changes):
    number, unit = (float(at[:-1]), at[-1]) if at is not None else (0, "s")
    time = BASE + datetime.timedelta(**{{"s": "seconds", "m": "minutes", "u": "microseconds"}[unit]: number}) if at is not None else None
    plain = {"event_id": None, "store_id": 7, "sku": "S100", "channel": "web", "currency": "GBP", "qty": 2,
             "unit_price": decimal.Decimal("5.00"), "discount": decimal.Decimal("0.00"), "gross": decimal.Decimal("10.00"),
             "vat": decimal.Decimal("1.00"), "weight": 0.5, "receipt": 1, "sold_at": time}
    return {**plain, **changes}


def counts(*rows):
    return oracle.compute(rows=list(rows)).counts


def test_a_row_is_late_when_its_window_plus_lateness_ends_exactly_at_the_watermark():
    # the window of 0 s ends at 60 s; lateness is over at 90 s; the watermark is five seconds behind the greatest time
    assert counts(row("0s"), row("95s"), row("1s"))["gold.velocity"]["late"] == 1
    assert counts(row("0s"), row("94s"), row("1s"))["gold.velocity"]["late"] == 0


def test_a_rows_own_time_does_not_make_it_late_and_rejected_rows_move_the_watermark():
    assert counts(row("95s"), row("0s"))["gold.velocity"]["late"] == 1
    assert counts(row("0s"), row("95s"))["gold.velocity"]["late"] == 0
    assert counts(row("95s", store_id=0), row("0s"))["gold.velocity"]["late"] == 1
    assert counts(row("95s", channel="test"), row("0s"))["gold.velocity"]["late"] == 1


def test_a_duplicate_lies_less_than_within_from_the_kept_row_either_way():
    def duplicates(*times):
        return counts(*[row(time, event_id="a") for time in times])["silver.sale"]["duplicates"]
    assert duplicates("0s", "599s") == 1
    assert duplicates("0s", "600s") == 0
    assert duplicates("600s", "1s") == 1
    assert duplicates("600s", "0s") == 0
    assert duplicates("0s", "599s", "601s") == 1  # a duplicate prolongs nothing


def test_a_row_rejected_by_map_is_forgotten_so_that_its_corrected_resend_passes():
    result = oracle.compute(rows=[row(event_id="a", vat=None), row(event_id="a"), row(event_id="a")])
    assert [r["net"] for r in result.silver] == [decimal.Decimal("9.00")]
    assert result.counts["silver.sale"] == {"in": 3, "out": 1, "rejected": {"map": 1}, "late": 0, "duplicates": 1}


def test_null_passes_a_data_predicate_but_not_a_function_nor_not_null():
    assert counts(row(sku=None, receipt=None))["silver.sale"]["rejected"] == {}
    assert counts(row(store_id=None))["silver.sale"]["rejected"] == {"has a store": 1}
    assert counts(row(qty=None))["silver.sale"]["rejected"] == {"lines add up": 1}
    assert counts(row(None))["silver.sale"]["rejected"] == {"time": 1}


def test_the_gravest_action_wins_and_all_names_are_carried():
    result = oracle.compute(rows=[row(store_id=0, currency="X", sku="?"), row(currency="X"), row(sku="?")])
    assert [names for _, names in result.quarantine] == [["currency is traded", "sku shape", "store in range"]]
    assert len(result.silver) == 1
    assert result.counts["silver.sale"]["rejected"] == {"store in range": 1, "currency is traded": 2}


def test_divisions_round_half_to_even_and_a_derive_that_throws_is_null():
    def gold(*quantities, revenue):
        rows = [row(qty=q, gross=decimal.Decimal(q) * 5, vat=decimal.Decimal(q) * 5 - (decimal.Decimal(revenue) if i == 0 else 0))
                for i, q in enumerate(quantities)]
        return oracle.compute(rows=rows).gold[0]
    assert gold(1, 0, revenue="1.00")["mean_qty"] == decimal.Decimal("0.5")
    assert gold(1, 1, 0, revenue="1.00")["mean_qty"] == decimal.Decimal("0.666667")
    assert gold(8, revenue="0.01")["mean_price"] == decimal.Decimal("0.0012")  # 0.00125, a tie
    assert gold(8, revenue="0.03")["mean_price"] == decimal.Decimal("0.0038")  # 0.00375, a tie
    assert gold(-8, revenue="-0.01")["mean_price"] == decimal.Decimal("0.0012")
    assert gold(-8, revenue="0.03")["mean_price"] == decimal.Decimal("-0.0038")
    assert gold(1, -1, revenue="1.00")["mean_price"] is None


@pytest.mark.parametrize("text, value", [
    (b'{"currency":"GBP","qty":1e3}', 1000), (b'{"currency":"GBP","qty":1.0}', 1), (b'{"currency":"GBP","qty":-0}', 0),
    (b'{"currency":"GBP"}', None),
])
def test_whole_numbers_are_judged_by_value(text, value):
    assert oracle.decode_line(text)["qty"] == value


@pytest.mark.parametrize("text", [
    b'{"currency":"GBP","qty":1.5}', b'{"currency":"GBP","qty":"1"}', b'{"currency":"GBP","qty":2147483648}', b'{"currency":null}', b"{}",
    b'{"currency":"GBP","gross":1.005}', b'{"currency":"GBP","sold_at":"2026-01-05T10:00:00"}', b'{"currency":"GBP","qty":1,"qty":1}',
    b'{"currency":"GBP","weight":1e999}', b'{"currency":"G\xff"}', b'{"currency":"GBP"} x', b'{"currency":"\\ud800"}',
])
def test_what_does_not_fit_is_rejected(text):
    with pytest.raises(oracle.Reject):
        oracle.decode_line(text)


def test_times_are_the_same_instant_in_every_spelling():
    spellings = [b'1743296400000000', b'"2025-03-30T01:00:00Z"', b'"2025-03-30T02:00:00+01:00"', b'"2025-03-29T20:00:00.000-05:00"']
    seen = {oracle.decode_line(b'{"currency":"GBP","sold_at":' + text + b"}")["sold_at"] for text in spellings}
    assert len(seen) == 1


def test_the_generator_makes_every_kind_of_trouble_and_the_oracle_rejects_exactly_its_bad_lines(tmp_path):
    made = events.Events(seed=1, rows=4000)
    names = made.write(tmp_path / "landing")
    assert names == sorted(names) and len(names) == 12
    result = oracle.compute(tmp_path / "landing")
    assert sorted(result.undecodable) == sorted(made.bad)
    silver = result.counts["silver.sale"]
    assert set(silver["rejected"]) == {"time", "map", "has a store", "store in range", "currency is traded", "lines add up"}
    assert silver["duplicates"] > 50 and result.counts["gold.velocity"]["late"] > 20
    for name, _, nullable, _ in standard.INPUT:
        assert not nullable or any(r[name] is None for r in result.bronze), f"no null in {name}"
    assert any(r["mean_price"] is None for r in result.gold)
