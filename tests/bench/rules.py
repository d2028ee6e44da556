"""What a decision and a pattern cost a row, beside the same said by hand: CPU of the whole process over generated rows, less that of a run
without either, so that it says what they add. The median of some rounds, the variants in turn.

usage: python3 tests/bench/rules.py [ROWS]      needs build/release/weir
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
ROUNDS = 3

PIPELINE = """return pipeline "rules" {{
  rules = "rules", storage = delta {{ root = "lake" }}, commit = {{ every = "1s" }}, memory = {{ state = "2GB" }},
  sources = {{ source "bronze.sale" {{ generator {{ seed = 1, count = {rows} }}, into = none }} }},
}}
"""
READ = 'from = "bronze.sale", where = function(e) return e.qty ~= nil and e.store_id ~= nil end, into = none, columns = { verdict = "int32" }'
DECISION = f"""decision "silver.d" {{ {READ},
  {{ qty = "<= 2", store_id = "<= 100", verdict = 1 }},
  {{ qty = "<= 2", currency = "GBP", verdict = 2 }},
  {{ qty = "3..5", store_id = "> 500", currency = {{ "EUR", "USD" }}, verdict = 3 }},
  {{ qty = "> 5", gross = ">= 100.00", verdict = 4 }},
  {{ gross = "< 5.00", verdict = 5 }},
  {{ store_id = "900..999", verdict = 6 }},
  {{ verdict = 7 }} }}
"""
BY_HAND = f"""stream "silver.d" {{ {READ}, map = function(e, out)
  local qty, store, currency = e.qty, e.store_id, e.currency
  if qty <= 2 and store <= 100 then out.verdict = 1
  elseif qty <= 2 and currency == "GBP" then out.verdict = 2
  elseif qty >= 3 and qty <= 5 and store > 500 and (currency == "EUR" or currency == "USD") then out.verdict = 3
  elseif qty > 5 and e.gross ~= nil and e.gross >= 100 then out.verdict = 4
  elseif e.gross ~= nil and e.gross < 5 then out.verdict = 5
  elseif store >= 900 and store <= 999 then out.verdict = 6
  else out.verdict = 7 end
end }}
"""
NOTHING = f"""stream "silver.d" {{ {READ}, map = function(e, out) out.verdict = 7 end }}
"""
SALE = 'stream "silver.s" { from = "bronze.sale", time = { field = "sold_at", out_of_order = "5s" }, keep = { "store_id", "qty", "sold_at" }, into = none }'
EMITS = 'on = "silver.s", key = "store_id", emits = { ["gold.m"] = { store_id = "int32" } }, into = none'
PATTERN = f"""{{ {SALE}, pattern "gold.p" {{ {EMITS}, within = "200ms",
  sequence = {{ step("low", 2, {{ where = function(e) return e.qty == 1 end }}), step("high", {{ where = function(e) return e.qty == 9 end }}) }} }} }}
"""
ADVANCES = f"""{{ {SALE}, pattern "gold.p" {{ {EMITS}, within = "1h",
  sequence = {{ step("low", 3, {{ where = function(e) return e.qty > 0 end }}), step("high", {{ where = function(e) return e.qty < 1000 end }}) }} }} }}
"""
RULE = f"""{{ {SALE}, rule "gold.p" {{ {EMITS}, state = {{ low = ring(2, "int32"), ttl = "200ms" }}, process = function(e, s, p, emit)
  if e.qty == 1 then s.low:push(1)
  elseif e.qty == 9 and s.low:count("200ms") == 2 then s:clear() emit("gold.m", {{ store_id = e.store_id }}) end
end }} }}
"""
VARIANTS = {"nothing": NOTHING, "decision": DECISION, "if-chain": BY_HAND, "stream": "{ " + SALE + " }", "pattern": PATTERN, "rule": RULE, "advances": ADVANCES}


def run(folder, rule):
    shutil.rmtree(folder / "lake", ignore_errors=True)
    (folder / "rules/r.lua").write_text("return " + rule)
    before = os.times()
    result = subprocess.run([BUILD / "weir", "run", "pipelines/p.lua", "--until-end", "--json"], cwd=folder, capture_output=True, text=True)
    after = os.times()
    if result.returncode != 0:
        sys.exit(f"rules: weir ended with {result.returncode}: {result.stderr[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, json.loads(result.stdout.strip().split("\n")[-1])["datasets"]


def main():
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    cpu, datasets = {name: [] for name in VARIANTS}, {}
    try:
        (folder / "pipelines").mkdir()
        (folder / "rules").mkdir()
        (folder / "pipelines/p.lua").write_text(PIPELINE.format(rows=rows))
        for _ in range(ROUNDS):
            for name, rule in VARIANTS.items():
                seconds, datasets[name] = run(folder, rule)
                cpu[name].append(seconds)
    finally:
        shutil.rmtree(folder)
    ns = {name: sorted(seconds)[ROUNDS // 2] / rows * 1e9 for name, seconds in cpu.items()}
    print(f"decision of 7 rows over 4 columns: {ns['decision'] - ns['nothing']:.0f} ns/row (the if-chain by hand: {ns['if-chain'] - ns['nothing']:.0f})")
    print(f"pattern that every row advances, {datasets['advances']['gold.m']['out']} matches: {ns['advances'] - ns['stream']:.0f} ns/row")
    print(f"pattern of 2 steps, {datasets['pattern']['gold.m']['out']} matches: {ns['pattern'] - ns['stream']:.0f} ns/row "
          f"(a rule by hand, {datasets['rule']['gold.m']['out']} matches: {ns['rule'] - ns['stream']:.0f})")


if __name__ == "__main__":
    main()
