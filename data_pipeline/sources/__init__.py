"""Where text comes from: file formats and packaged corpora."""
