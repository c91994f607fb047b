"""Item text to embeddings M(s) by a BERT-family model, cached by text digest."""
