"""What is trained: for each of the two models its samples, batches and losses."""
