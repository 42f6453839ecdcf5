"""Evidence about policies: evaluation, statistics, records, comparisons and learning curves."""
