"""Terms, the learned head, exact top-K, metrics, baselines, bundles and the recommender."""
