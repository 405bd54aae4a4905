"""From scores to sequences: sampling, beam search, connectionist temporal classification."""
