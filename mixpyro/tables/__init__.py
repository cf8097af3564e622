"""Tables in, tables out: frames, Series, arrays and lists become tensors, and results get the frames' row labels."""
