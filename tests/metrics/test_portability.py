"""What portability says of names that only files have."""

from doubles import evaluation, oracle, world

from unlearn_cli.metrics.portability import Portability


def test_what_files_ask_by_another_name_is_told_where_it_counts():
    probes, old = world(remap=True)
    found = Portability().compute(evaluation(probes, base=oracle(old), edited=oracle(old)))
    alias = found["portability/alias"]
    assert alias.status == "skipped"
    assert alias.reason == "generated subjects have one name; what files ask by another name counts in one_hop"
