"""One module for each objective, with its loss, batches and measurements, and the modules that two of them share."""
