"""What is known of a policy: evaluation, statistics, records, comparisons, curves."""
