"""Pure functions of text: cleaning, words, vocabulary, encoding, packing."""
