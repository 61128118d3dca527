"""The objective (minus the log-likelihood per unit of weight) with its derivatives, and evaluators that sum it over the
data.
"""

from mlejax.objective.bias_reduction import BiasReduction, check_reduction
from mlejax.objective.elimination import EffectsEvaluator, Eliminated, StreamedLevels, separated_rows, too_many_to_test
from mlejax.objective.evaluator import (
    Evaluation,
    Evaluator,
    RowTerms,
    SearchEvaluator,
    SingleEvaluator,
    evaluate_one,
    row_terms,
)
from mlejax.objective.evaluators.chunked import ChunkedEvaluator, Minimised, chunk_size, sample_chunks
from mlejax.objective.evaluators.data_sets import DataSetsEvaluator, filled
from mlejax.objective.evaluators.hoisting import hoists, with_invariants
from mlejax.objective.evaluators.points import PointsEvaluator
from mlejax.objective.evaluators.programs import products_of_sets
from mlejax.objective.evaluators.reweighted import Reweighted, SeparateEvaluator, Weights, run_of_starts
from mlejax.objective.evaluators.sharded import ShardedEvaluator
from mlejax.objective.objective import Objective, objective_of, sum_over_blocks, to_loglik
from mlejax.objective.passes.bad_rows import BadRows, bad_rows
from mlejax.objective.passes.effect_sums import (
    DerivativesWithEffects,
    EffectSums,
    RowDerivatives,
    derivatives_in_memory,
    effect_sums,
    streamed_effect_sums,
    sums_by_level,
)
from mlejax.objective.passes.jobs import EffectValues, Place
from mlejax.objective.passes.partitioned import PartitionedEvaluator, added, in_pairs
from mlejax.objective.passes.resampled_sums import check_rows_at_once, derivatives_of_rows, drawn_sums, sums_by_label
from mlejax.objective.passes.score_sums import Partialled, nested_in_clusters, streamed_products
from mlejax.objective.sampling import sample_rows, with_leading_axis
from mlejax.objective.specification import Spec, penalty_at, penalty_derivatives, penalty_value

__all__ = [
    "BadRows",
    "BiasReduction",
    "ChunkedEvaluator",
    "DataSetsEvaluator",
    "DerivativesWithEffects",
    "EffectSums",
    "EffectValues",
    "EffectsEvaluator",
    "Eliminated",
    "Evaluation",
    "Evaluator",
    "Minimised",
    "Objective",
    "Partialled",
    "PartitionedEvaluator",
    "Place",
    "PointsEvaluator",
    "Reweighted",
    "RowDerivatives",
    "RowTerms",
    "SearchEvaluator",
    "SeparateEvaluator",
    "ShardedEvaluator",
    "SingleEvaluator",
    "Spec",
    "StreamedLevels",
    "Weights",
    "added",
    "bad_rows",
    "check_reduction",
    "check_rows_at_once",
    "chunk_size",
    "derivatives_in_memory",
    "derivatives_of_rows",
    "drawn_sums",
    "effect_sums",
    "evaluate_one",
    "filled",
    "hoists",
    "in_pairs",
    "nested_in_clusters",
    "objective_of",
    "penalty_at",
    "penalty_derivatives",
    "penalty_value",
    "products_of_sets",
    "row_terms",
    "run_of_starts",
    "sample_chunks",
    "sample_rows",
    "separated_rows",
    "streamed_effect_sums",
    "streamed_products",
    "sum_over_blocks",
    "sums_by_label",
    "sums_by_level",
    "to_loglik",
    "too_many_to_test",
    "with_invariants",
    "with_leading_axis",
]
