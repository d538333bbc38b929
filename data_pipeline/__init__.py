"""Raw Chinese text in, HDF5 shards out; and the order in which training reads them."""
