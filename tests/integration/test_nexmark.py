"""Nexmark queries as rule files (tests/nexmark) against what DuckDB computes from the same events."""

import os
import pathlib

import deltalake
import duckdb
import pyarrow as pa
import pytest

from conftest import Project
import lake

NEXMARK = pathlib.Path(__file__).resolve().parent.parent / "nexmark"
EVENTS = int(os.environ.get("WEIR_NEXMARK_EVENTS", "30000"))
BID = "SELECT new_bid.* FROM event WHERE event_type = 2"
AUCTION = "SELECT new_auction.* FROM event WHERE event_type = 1"
PERSON = "SELECT new_person.* FROM event WHERE event_type = 0"
WHILE_OPEN = "b.dateTime BETWEEN a.dateTime AND a.expires"
RANKS = "count(*) FILTER (price < 10000), count(*) FILTER (price >= 10000 AND price < 1000000), count(*) FILTER (price >= 1000000)"


def ranked(column):
    return f"""count(DISTINCT {column}), count(DISTINCT {column}) FILTER (price < 10000),
        count(DISTINCT {column}) FILTER (price >= 10000 AND price < 1000000), count(DISTINCT {column}) FILTER (price >= 1000000)"""


def TEN(row):
    return f"time_bucket(INTERVAL 10 SECOND, {row}.dateTime)"


RANK_COLUMNS = ["rank1_bids", "rank2_bids", "rank3_bids"]
DISTINCT_COLUMNS = [f"{rank}_{what}" for what in ("bidders", "auctions") for rank in ("total", "rank1", "rank2", "rank3")]

MEANS = {"q4": "mean", "q17": "avg_price"}

# query → the columns compared, and the same in SQL over `event`
QUERIES = {
    "q0": (["auction", "bidder", "price", "dateTime", "extra"], f"SELECT auction, bidder, price, dateTime, extra FROM ({BID})"),
    "q1": (["auction", "bidder", "price", "dateTime", "extra"],
           f"SELECT auction, bidder, (price * 0.908)::DECIMAL(23, 3), dateTime, extra FROM ({BID})"),
    "q2": (["auction", "price"], f"SELECT auction, price FROM ({BID}) WHERE auction % 123 = 0"),
    "q3": (["name", "city", "state", "id"], f"""
        SELECT p.name, p.city, p.state, a.id FROM ({AUCTION}) a JOIN ({PERSON}) p ON a.seller = p.id WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')"""),
    "q4": (["category", "mean"], f"""
        SELECT category, ((2000000 * sum(final) + count(*)) // (2 * count(*)))::DECIMAL(38, 0) FROM (
            SELECT a.id, a.category, max(b.price) AS final FROM ({AUCTION}) a JOIN ({BID}) b ON a.id = b.auction AND {WHILE_OPEN} GROUP BY ALL) GROUP BY category"""),
    "q5": (["auction", "num", "window_start", "window_end"], f"""
        SELECT auction, num, start, start + INTERVAL 10 SECOND FROM (
            SELECT auction, start, count(*) AS num, max(count(*)) OVER (PARTITION BY start) AS most FROM (
                SELECT auction, unnest([time_bucket(INTERVAL 2 SECOND, dateTime) - INTERVAL 2 SECOND * i FOR i IN range(5)]) AS start FROM ({BID}))
            GROUP BY auction, start) WHERE num = most"""),
    "q7": (["auction", "bidder", "price", "dateTime", "extra"], f"""
        SELECT auction, bidder, price, dateTime, extra FROM ({BID})
        QUALIFY price = max(price) OVER (PARTITION BY time_bucket(INTERVAL 10 SECOND, dateTime))"""),
    "q8": (["id", "name", "window_start"], f"""
        SELECT DISTINCT p.id, p.name, {TEN('p')} FROM ({PERSON}) p JOIN ({AUCTION}) a ON p.id = a.seller AND {TEN('p')} = {TEN('a')}"""),
    "q9": (["id", "itemName", "description", "initialBid", "reserve", "dateTime", "expires", "seller", "category", "extra", "auction", "bidder", "price", "bid_time", "bid_extra"], f"""
        SELECT a.id, itemName, description, initialBid, reserve, a.dateTime, expires, seller, category, a.extra, auction, bidder, price, b.dateTime, b.extra
        FROM ({AUCTION}) a JOIN ({BID.replace("new_bid.*", "new_bid.*, _offset")}) b ON a.id = b.auction AND {WHILE_OPEN}
        QUALIFY row_number() OVER (PARTITION BY a.id ORDER BY price DESC, b.dateTime, b._offset) = 1"""),
    "q11": (["bidder", "bid_count", "window_start", "window_end"], f"""
        SELECT bidder, count(*), min(dateTime), max(dateTime) + INTERVAL 10 SECOND FROM (
            SELECT *, sum(fresh) OVER (PARTITION BY bidder ORDER BY dateTime ROWS UNBOUNDED PRECEDING) AS session FROM (
                SELECT *, CASE WHEN dateTime - lag(dateTime) OVER (PARTITION BY bidder ORDER BY dateTime) <= INTERVAL 10 SECOND THEN 0 ELSE 1 END
                    AS fresh FROM ({BID})))
        GROUP BY bidder, session"""),
    "q14": (["auction", "bidder", "price", "bidTimeType", "dateTime", "extra", "c_counts"], f"""
        SELECT auction, bidder, (price * 0.908)::DECIMAL(23, 3), CASE WHEN h BETWEEN 8 AND 18 THEN 'dayTime' WHEN h <= 6 OR h >= 20 THEN 'nightTime'
            ELSE 'otherTime' END, dateTime, extra, length(extra) - length(replace(extra, 'c', ''))
        FROM (SELECT *, hour(dateTime) AS h FROM ({BID})) WHERE price * 0.908 > 1000000 AND price * 0.908 < 50000000"""),
    "q15": (["day", "total_bids", *RANK_COLUMNS, *DISTINCT_COLUMNS],
            f"SELECT strftime(dateTime, '%Y-%m-%d') AS day, count(*), {RANKS}, {ranked('bidder')}, {ranked('auction')} FROM ({BID}) GROUP BY day"),
    "q16": (["channel", "day", "minute", "total_bids", *RANK_COLUMNS, *DISTINCT_COLUMNS], f"""
        SELECT channel, strftime(dateTime, '%Y-%m-%d') AS day, max(strftime(dateTime, '%H:%M')), count(*), {RANKS}, {ranked('bidder')}, {ranked('auction')}
        FROM ({BID}) GROUP BY channel, day"""),
    "q17": (["auction", "day", "total_bids", *RANK_COLUMNS, "min_price", "max_price", "avg_price", "sum_price"], f"""
        SELECT auction, strftime(dateTime, '%Y-%m-%d') AS day, count(*), {RANKS}, min(price), max(price),
            ((2000000 * sum(price) + count(*)) // (2 * count(*)))::DECIMAL(38, 0), sum(price) FROM ({BID}) GROUP BY auction, day"""),
    "q18": (["bidder", "auction", "price", "channel", "url", "extra", "dateTime"], f"""
        SELECT bidder, auction, price, channel, url, extra, dateTime FROM ({BID.replace("new_bid.*", "new_bid.*, _offset")})
        QUALIFY row_number() OVER (PARTITION BY bidder, auction ORDER BY dateTime DESC, _offset DESC) = 1"""),
    "q19": (["auction", "bidder", "price", "channel", "url", "extra", "rank_number"], f"""
        SELECT auction, bidder, price, channel, url, extra, row_number() OVER (PARTITION BY auction ORDER BY price DESC, dateTime, _offset) AS n
        FROM ({BID.replace("new_bid.*", "new_bid.*, _offset")}) QUALIFY n <= 10"""),
    "q20": (["auction", "bidder", "price", "channel", "url", "extra", "itemName", "description", "initialBid", "reserve", "opened", "expires", "seller", "category", "auction_extra"], f"""
        SELECT auction, bidder, price, channel, url, b.extra, itemName, description, initialBid, reserve, a.dateTime, expires, seller, category, a.extra
        FROM ({BID}) b JOIN ({AUCTION}) a ON b.auction = a.id WHERE a.category = 10"""),
    "q21": (["auction", "bidder", "price", "channel", "channel_id"], f"""
        SELECT auction, bidder, price, channel, id FROM (
            SELECT *, CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                ELSE nullif(regexp_extract(url, '&channel_id=([^&]*)', 1), '') END AS id FROM ({BID})) WHERE id IS NOT NULL"""),
    "q22": (["auction", "bidder", "price", "channel", "dir1", "dir2", "dir3"],
            f"SELECT auction, bidder, price, channel, split_part(url, '/', 4), split_part(url, '/', 5), split_part(url, '/', 6) FROM ({BID})"),
}


@pytest.fixture(scope="module")
def events(binary, tmp_path_factory):
    """The events as DuckDB sees them: bronze, written by the first run."""
    folder = tmp_path_factory.mktemp("nexmark")
    run(binary, folder, "q2", "recorded")
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    files = deltalake.DeltaTable(str(folder / "bronze/event")).file_uris()
    database.execute(f"CREATE VIEW event AS SELECT * FROM read_parquet({files!r})")
    return database


def run(binary, folder, query, pipeline="nexmark"):
    project = Project(binary, NEXMARK)
    return project.run(f"pipelines/{pipeline}.lua", env={"QUERY": query, "EVENTS": str(EVENTS), "LAKE": str(folder)})


def read(path):
    """Through DataFusion, for what marks its rows deleted instead of rewriting files."""
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(str(path)))
    return pa.table(query.execute("SELECT * FROM t").read_all())


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_gives_what_duckdb_computes(binary, events, tmp_path, query):
    columns, sql = QUERIES[query]
    run(binary, tmp_path / "lake", query)
    table = read(tmp_path / "lake/gold" / query)
    got = lake.rows_of(table, columns)
    want = [tuple(lake.normal(value) for value in row) for row in events.sql(sql).fetchall()]
    if query in MEANS:  # avg of integers is a decimal with six digits
        place = columns.index(MEANS[query])
        got = [row[:place] + (int(row[place].scaleb(6)),) + row[place + 1:] for row in got]
        want = [row[:place] + (int(row[place]),) + row[place + 1:] for row in want]
    assert len(got) == len(want) > 0
    assert sorted(got, key=repr) == sorted(want, key=repr)


def test_a_side_input_gives_what_duckdb_computes(binary, events, tmp_path):
    """q13: bids looked up in a bounded side input, of which some keys are missing."""
    side = tmp_path / "side.csv"
    side.write_text("key,value\n" + "".join(f"{key},value {key * 7919 % 10000}\n" for key in range(10000) if key % 5))
    columns = ["auction", "bidder", "price", "dateTime", "value"]
    project = Project(binary, NEXMARK)
    project.run("pipelines/side.lua", env={"QUERY": "q13", "EVENTS": str(EVENTS), "LAKE": str(tmp_path / "lake"), "SIDE": str(side)})
    got = lake.rows_of(lake.by_deltalake(tmp_path / "lake/gold/q13"), columns)
    want = events.sql(f"""SELECT auction, bidder, price, dateTime, value FROM ({BID}) AS bid
        JOIN read_csv('{side}', header = true) AS side ON bid.auction % 10000 = side.key""").fetchall()
    assert len(got) == len(want) > 0
    assert sorted(got, key=repr) == sorted([tuple(lake.normal(value) for value in row) for row in want], key=repr)


def test_windows_of_processing_time_are_of_the_time_rows_came_in(binary, tmp_path):
    """q12: that time is recorded with the rows, so DuckDB can count again."""
    run(binary, tmp_path / "lake", "q12", "recorded")
    got = lake.rows_of(lake.by_deltalake(tmp_path / "lake/gold/q12"), ["bidder", "window_start", "bid_count"])
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    files = deltalake.DeltaTable(str(tmp_path / "lake/bronze/event")).file_uris()
    want = database.sql(f"""SELECT new_bid.bidder, time_bucket(INTERVAL 10 SECOND, _ingested_at), count(*) FROM read_parquet({files!r})
        WHERE event_type = 2 GROUP BY ALL""").fetchall()
    assert len(got) > 0 and sum(count for _, _, count in got) == EVENTS * 46 // 50
    assert sorted(got) == sorted(tuple(lake.normal(value) for value in row) for row in want)
