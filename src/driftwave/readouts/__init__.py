"""What decoders of population activity share: features, targets, folds, nulls and results."""
