"""Keys of another column are other keys, though their types are the same: what is remembered by the old ones never passes for theirs."""

import pytest
from language import World
from live import Live, wait_until
from test_migrate import OPTIONS

ROW = {"k": "string", "j": "string", "v": "long!", "at": "timestamp!"}
FORMS = {
    "model": 'return model "gold.x" { from = "bronze.row", by = { "%s" }, measures = { n = count() } }',
    "window": 'return { stream "silver.x" { from = "bronze.row", time = { field = "at" }, into = none },\n'
              'model "gold.x" { from = "silver.x", by = { "%s" }, window = tumbling "1h", measures = { n = count() } } }',
    "dedup": 'return stream "silver.x" { from = "bronze.row", time = { field = "at" }, dedup = { by = "%s", within = "1d" } }',
    "rule": 'return rule "fraud.x" { on = "bronze.row", key = "%s", order = "arrival", emits = { ["gold.x"] = { n = "int64" } }, state = { n = counter() },\n'
            'process = function(e, s, p, emit) s.n:add() emit("gold.x", { n = s.n:get() }) end }',
    "join": 'return { stream "silver.o" { from = "bronze.row", time = { field = "at" }, into = none },\n'
            'stream "gold.x" { from = "bronze.row", key = "v", time = { field = "at" }, join = { o = regular_join "silver.o" { on = { %s = "k" }, ttl = "1d" } },\n'
            'columns = { v2 = "int64" }, map = function(e, out, j) out.v2 = j.o and j.o.v end } }',
}


@pytest.mark.parametrize("form", FORMS)
def test_state_by_another_column_is_not_taken_over(project, form):
    row = {"k": "a", "j": "b", "v": 1, "at": "2026-01-05T10:00:00Z"}
    live = Live(World(project, ROW, FORMS[form] % "k", [row], options=OPTIONS))
    try:
        wait_until(lambda: live.dead() or project.weir("status", "--json").json()["epochs"] > 0 and project.weir("status", "--json").json()["events"] == 1)
        assert not live.dead(), live.process.communicate()
        live.save(FORMS[form] % "j")
        live.wait_for("reload refused")
        assert "changed" in live.note() and ("another name" in live.note() or "weir rebuild" in live.note()), live.note()
    finally:
        live.process.kill()
        live.process.communicate()
    done = project.weir("run", "pipelines/p.lua", "--until-end")
    assert done.code in (1, 3), done
