import pytest

from course_lib.engine.compare.verdict import (
    QUANTITIES,
    Quantity,
    Spread,
    both_verdict,
    caution,
    chance_of_separation,
    frontier,
    lead_verdict,
    leader,
    pair_verdict,
    pair_verdicts,
    ranking,
)

AP, MS = QUANTITIES["AP"], QUANTITIES["latency"]
HIGH, MIDDLE, LOW = Spread((0.5, 0.6)), Spread((0.45, 0.5)), Spread((0.3, 0.44))


def test_a_spread():
    spread = Spread((0.2, 0.4, 0.3))
    assert (spread.mean, spread.low, spread.high) == (pytest.approx(0.3), 0.2, 0.4)
    assert AP.write(spread) == "0.300 (0.200–0.400)"
    assert AP.write(Spread((0.25,))) == "0.250"
    assert Quantity("n", form="{:.0f}").write(Spread((1.0, 3.0))) == "2 (1–3)"
    with pytest.raises(ValueError, match="at least one value"):
        Spread(())


def test_overlap_includes_touching():
    assert HIGH.overlaps(MIDDLE)
    assert MIDDLE.overlaps(HIGH)
    assert not MIDDLE.overlaps(LOW)
    assert Spread((0.0, 1.0)).overlaps(Spread((0.4, 0.5)))


def test_no_claim_where_spreads_overlap():
    said = pair_verdict(AP, "A", HIGH, "B", MIDDLE)
    assert said == (
        "No claim between A and B: their spreads overlap (AP: A 0.550 (0.500–0.600), B 0.475 (0.450–0.500))."
    )


def test_a_claim_names_the_better_first_whatever_the_order():
    said = "A is more accurate than C: AP 0.550 (0.500–0.600) against 0.370 (0.300–0.440)."
    assert pair_verdict(AP, "A", HIGH, "C", LOW) == pair_verdict(AP, "C", LOW, "A", HIGH) == said
    fast, slow = Spread((10.0, 11.0)), Spread((20.0, 22.0))
    said = "A is faster than B: milliseconds an image 10.5 (10.0–11.0) against 21.0 (20.0–22.0)."
    assert pair_verdict(MS, "A", fast, "B", slow) == pair_verdict(MS, "B", slow, "A", fast) == said


def test_one_seed_says_nothing():
    said = pair_verdict(AP, "A", Spread((0.9,)), "B", LOW)
    assert said == ("No claim between A and B: a single seed has no spread (AP: A 0.900, B 0.370 (0.300–0.440)).")


def test_every_two_the_best_first():
    said = pair_verdicts(AP, {"C": LOW, "A": HIGH, "B": MIDDLE})
    assert [sentence.split(":")[0] for sentence in said] == [
        "No claim between A and B",
        "A is more accurate than C",
        "B is more accurate than C",
    ]
    assert ranking(MS, {"slow": Spread((3.0,)), "fast": Spread((1.0,))}) == ["fast", "slow"]


def test_who_leads():
    assert leader(AP, {"C": LOW, "B": MIDDLE}) == "B"
    assert leader(AP, {"C": LOW, "B": MIDDLE, "A": HIGH}) is None
    assert leader(AP, {"C": LOW, "B": Spread((0.9,))}) is None
    assert leader(AP, {"C": LOW}) == "C"
    assert lead_verdict(AP, {"C": LOW, "B": MIDDLE}) == (
        "In AP B leads: 0.475 (0.450–0.500), then C 0.370 (0.300–0.440)."
    )
    assert lead_verdict(AP, {"C": LOW, "B": MIDDLE, "A": HIGH}) == (
        "In AP no one leads: the spread of A 0.550 (0.500–0.600) overlaps that of B 0.475 (0.450–0.500)."
    )
    assert lead_verdict(AP, {"C": Spread((0.1,)), "B": Spread((0.9,))}) == (
        "In AP no one leads, for a single seed has no spread; the best value is B 0.900."
    )
    assert lead_verdict(AP, {"C": LOW}) == "In AP there is nothing to compare: C 0.370 (0.300–0.440)."


def test_who_is_beaten_in_both():
    fast, slow = Spread((10.0, 11.0)), Spread((20.0, 22.0))
    accuracy = {"A": HIGH, "C": LOW, "D": LOW}
    assert frontier(accuracy, {"A": slow, "C": fast, "D": fast}) == ["C", "D", "A"]
    assert frontier(accuracy, {"A": fast, "C": slow, "D": Spread((10.5, 30.0))}) == ["A", "D"]  # D: spreads overlap
    assert both_verdict(accuracy, {"A": fast, "C": slow, "D": slow}) == (
        "Beaten in neither accuracy nor speed, the fastest first: A. "
        "Others are both more accurate and faster than C and than D."
    )
    assert both_verdict(accuracy, {"A": slow, "C": fast, "D": fast}).endswith("the fastest first: C, D, A.")
    assert "nothing is claimed" in both_verdict({"A": Spread((1.0,))}, {"A": fast})


def test_luck_by_counting():
    # two seeds each, a b | A B: of the 4! / (2! 2!) = 6 orders, aabb and bbaa separate
    assert chance_of_separation(2) == pytest.approx(1 / 3)
    assert chance_of_separation(3) == pytest.approx(1 / 10)
    assert chance_of_separation(1) == 1
    with pytest.raises(ValueError, match="seeds: found 0"):
        chance_of_separation(0)


def test_the_caution():
    assert "in one of 10 comparisons by luck; there are 6 pairs here" in caution([0, 1, 2], 6)
    assert caution([4], 6).startswith("One seed was trained, so nothing is claimed")
