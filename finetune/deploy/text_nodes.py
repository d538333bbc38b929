"""The nodes of a tokenizer as an ONNX graph, in ONNX's textual syntax; see `text_graph`.

The names of tensors say what they hold. Shapes are

    N texts, R rows (texts, their pairs if there are any, and a blank), D characters of the longest
    row, K symbols of a class, M symbols of all rows, Q of them in runs, L tokens of the longest
    encoding

Loops have bodies with outputs of other shapes (P2 after P), since the number of runs shrinks.
"""

# com.microsoft.Tokenizer gives no second dimension if all rows are empty; so the last is a blank
TEXTS = """
rows = Concat <axis = 0> (text, blank_row)
text_shape = Shape (text)
sizes = Concat <axis = 0> (text_shape, at_1)
"""
TEXTS_AND_PAIRS = """
rows = Concat <axis = 0> (text, pair, blank_row)
text_shape = Shape (text)
pair_shape = Shape (pair)
sizes = Concat <axis = 0> (text_shape, pair_shape, at_1)
"""

CHARACTERS = """
characters = com.microsoft.Tokenizer
    <separators = [""], pad_value = "padding", mark = 0, mincharnum = 1> (rows)
classes = ai.onnx.ml.LabelEncoder <default_int64 = 0> (characters)
classes_shape = Shape (classes)
row_count = Slice (classes_shape, at_0, at_1)
length = Slice (classes_shape, at_1, at_2)
"""

# one comparison for each place in a special token; special tokens never overlap
SPECIAL_BEGINS = """
wide = Pad (classes, pad_right)
special_0 = Identity (always)
"""
SPECIAL_PLACE = """
end_{i} = Add (length, at_{i})
class_{i} = Slice (wide, at_{i}, end_{i}, axis_1)
class_{i}_of_each = Unsqueeze (class_{i}, last_axis)
equal_{i} = Equal (class_{i}_of_each, special_class_{i})
fits_{i} = Or (equal_{i}, special_is_shorter_than_{i})
special_{next} = And (special_{i}, fits_{i})
"""
SPECIAL_ENDS = """
special = Cast <to = 7> (special_{places})
special_symbols = Mul (special, special_symbol)
special_symbol_here = ReduceSum <keepdims = 1> (special_symbols, last_axis)
inside_0 = Mul (classes, zero)
"""
# a place is inside a special token if one of that length begins less than its length before
SPECIAL_INSIDE = """
of_length_{length} = Mul (special, special_has_length_{length})
begins_{length} = ReduceSum <keepdims = 0> (of_length_{length}, last_axis)
padded_{length} = Pad (begins_{length}, pad_left_{length})
ends_{length} = Slice (padded_{length}, at_0, length, axis_1)
more_{length} = Sub (begins_{length}, ends_{length})
inside_{next} = Add (inside_{number}, more_{length})
"""

SYMBOLS = """
inside_count = CumSum (inside_{lengths}, one)
is_inside = Cast <to = 9> (inside_count)
is_inside_special = Unsqueeze (is_inside, last_axis)
class_symbols = Gather (symbol_table, classes)
shown_symbols = Where (is_inside_special, zero, class_symbols)
place_symbols = Concat <axis = 2> (special_symbol_here, shown_symbols)
row_symbols = Flatten <axis = 1> (place_symbols)
column_shape = Concat <axis = 0> (row_count, at_1)
row_ends = Expand (blank, column_shape)
ended_rows = Concat <axis = 1> (row_symbols, row_ends)
ended_shape = Shape (ended_rows)
all_symbols = Reshape (ended_rows, minus_1)
row_total = Squeeze (row_count)
row_numbers = Range (zero, row_total, one)
row_column = Unsqueeze (row_numbers, axis_1)
row_of_each = Expand (row_column, ended_shape)
row_of_all = Reshape (row_of_each, minus_1)
is_something = Cast <to = 9> (all_symbols)
symbols = Compress (all_symbols, is_something)
row_of = Compress (row_of_all, is_something)
"""

# each state of the trie says which tokens begin at a place, the longest is the last
MATCHES = """
count = Size (symbols)
places = Range (zero, count, one)
in_run = Greater (symbols, blank)
in_run_before = Slice (in_run, at_0, minus_1)
in_run_one_before = Concat <axis = 0> (never, in_run_before)
not_in_run_before = Not (in_run_one_before)
begins_run = And (in_run, not_in_run_before)
run_places = Compress (places, in_run)
run_begins = Compress (begins_run, in_run)
first_state = Where (run_begins, word, inside)
no_length = Mul (run_places, zero)
no_token = Mul (run_places, zero)
symbols_and_end = Concat <axis = 0> (symbols, blank_1)
last_state, run_length, run_token = Loop (longest_token, true, first_state, no_length, no_token) <
  body = longest_match (int64 step, bool go, int64[Q] state, int64[Q] best_length, int64[Q] best)
      => (bool go_on, int64[Q] next_state, int64[Q] next_length, int64[Q] next_best) {
    ahead = Add (run_places, step)
    looked_at = Min (ahead, count)
    symbol = Gather (symbols_and_end, looked_at)
    symbol_or_none = Max (symbol, zero)
    from_state = Mul (state, alphabet)
    edge = Add (from_state, symbol_or_none)
    next_state = ai.onnx.ml.LabelEncoder <default_int64 = 0> (edge)
    token = Gather (accepted, next_state)
    is_token = GreaterOrEqual (token, zero)
    token_length = Add (step, one)
    next_length = Where (is_token, token_length, best_length)
    next_best = Where (is_token, token, best)
    alive = ReduceSum <keepdims = 0> (next_state)
    go_on = Greater (alive, zero)
  }>
"""

# from each token of a run to the next, all runs at a time
PIECES = """
count_and_1 = Add (count, one)
some_shape = Reshape (count_and_1, minus_1)
none = Expand (zero, some_shape)
jump = ScatterElements (none, run_places, run_length)
token_at = ScatterElements (none, run_places, run_token)
in_run_and_end = Concat <axis = 0> (in_run, never)
first_places = Compress (places, begins_run)
last_places, reached_all = Loop (longest_word, true, first_places, none) <
  body = next_pieces (int64 number, bool more, int64[P] at, int64[A] reached)
      => (bool go_on_at, int64[P2] next_at, int64[A] next_reached) {
    mark = Add (at, one)
    next_reached = ScatterElements (reached, at, mark)
    steps_here = Gather (jump, at)
    after = Add (at, steps_here)
    is_step = Greater (steps_here, zero)
    is_in_run = Gather (in_run_and_end, after)
    is_next = And (is_step, is_in_run)
    next_at = Compress (after, is_next)
    next_count = Size (next_at)
    go_on_at = Greater (next_count, zero)
  }>
"""

# a run is [UNK] as a whole if no token fits somewhere, or if it is too long
IDS = """
reached_places = Slice (reached_all, at_0, minus_1)
is_piece = Cast <to = 9> (reached_places)
jump_places = Slice (jump, at_0, minus_1)
fits = Cast <to = 9> (jump_places)
fits_not = Not (fits)
is_stuck = And (is_piece, fits_not)
begins_number = Cast <to = 7> (begins_run)
run_of = CumSum (begins_number, zero)
stuck_runs = Compress (run_of, is_stuck)
stuck_ones = Equal (stuck_runs, stuck_runs)
stuck_values = Cast <to = 7> (stuck_ones)
unknown_runs = ScatterElements (none, stuck_runs, stuck_values)
runs_of_parts = Compress (run_of, in_run)
part_ones = Equal (runs_of_parts, runs_of_parts)
part_values = Cast <to = 7> (part_ones)
run_sizes = ScatterElements <reduction = "add"> (none, runs_of_parts, part_values)
is_too_long = Greater (run_sizes, longest_word)
is_unknown = Cast <to = 9> (unknown_runs)
is_unknown_run = Or (is_unknown, is_too_long)
in_unknown_run = Gather (is_unknown_run, run_of)
in_known_run = Not (in_unknown_run)
is_alone = Less (symbols, zero)
minus_symbols = Neg (symbols)
alone_id = Sub (minus_symbols, one)
token_places = Slice (token_at, at_0, minus_1)
run_id = Where (in_unknown_run, unknown_id, token_places)
id = Where (is_alone, alone_id, run_id)
is_known_piece = And (is_piece, in_known_run)
is_unknown_begin = And (begins_run, in_unknown_run)
is_run_token = Or (is_known_piece, is_unknown_begin)
is_id = Or (is_alone, is_run_token)
ids = Compress (id, is_id)
row_of_ids = Compress (row_of, is_id)
"""

COUNTS = """
no_rows = Expand (zero, row_count)
ones_of_ids = Equal (row_of_ids, row_of_ids)
one_of_each_id = Cast <to = 7> (ones_of_ids)
counts = ScatterElements <reduction = "add"> (no_rows, row_of_ids, one_of_each_id)
begins = CumSum <exclusive = 1> (counts, zero)
"""
LENGTHS = """
text_count, blank_count = Split (counts, sizes)
text_begin, blank_begin = Split (begins, sizes)
pair_begin = Identity (text_begin)
text_part = Min (text_count, room_alone)
total = Add (text_part, two)
"""
# data_pipeline.text.encode.longest_first
LENGTHS_OF_PAIRS = """
text_count, pair_count, blank_count = Split (counts, sizes)
text_begin, pair_begin, blank_begin = Split (begins, sizes)
pair_given = ai.onnx.ml.LabelEncoder
    <keys_strings = [""], values_int64s = [0], default_int64 = 1> (pair)
is_pair = Cast <to = 9> (pair_given)
both = Add (text_count, pair_count)
both_fit = LessOrEqual (both, room)
text_is_short = LessOrEqual (text_count, half_room)
pair_is_short = LessOrEqual (pair_count, half_room)
beside_pair = Sub (room, pair_count)
text_if_long = Where (pair_is_short, beside_pair, room_less_half)
text_if_cut = Where (text_is_short, text_count, text_if_long)
text_in_pair = Where (both_fit, text_count, text_if_cut)
beside_text = Sub (room, text_in_pair)
pair_part = Where (both_fit, pair_count, beside_text)
text_alone = Min (text_count, room_alone)
text_part = Where (is_pair, text_in_pair, text_alone)
text_total = Add (text_part, two)
total_less_1 = Add (text_total, pair_part)
pair_total = Add (total_less_1, one)
total = Where (is_pair, pair_total, text_total)
"""
# [CLS] text [SEP] or [CLS] text [SEP] pair [SEP]
ENCODING = """
text_end = Add (text_part, one)
width = ReduceMax <keepdims = 0> (total)
columns = Range (zero, width, one)
text_end_column = Unsqueeze (text_end, axis_1)
total_column = Unsqueeze (total, axis_1)
text_begin_column = Unsqueeze (text_begin, axis_1)
pair_begin_column = Unsqueeze (pair_begin, axis_1)
last_column = Sub (total_column, one)
before_column = Sub (columns, one)
text_place = Add (text_begin_column, before_column)
pair_column = Sub (before_column, text_end_column)
pair_place = Add (pair_begin_column, pair_column)
cls_place = Size (ids)
sep_place = Add (cls_place, one)
pad_place = Add (cls_place, two)
is_text = Less (columns, text_end_column)
is_text_end = Equal (columns, text_end_column)
is_end = Equal (columns, last_column)
is_sep = Or (is_text_end, is_end)
is_pad = GreaterOrEqual (columns, total_column)
is_first = Less (columns, one)
text_or_pair = Where (is_text, text_place, pair_place)
or_sep = Where (is_sep, sep_place, text_or_pair)
or_pad = Where (is_pad, pad_place, or_sep)
place = Where (is_first, cls_place, or_pad)
ids_and_special = Concat <axis = 0> (ids, cls_sep_pad)
input_ids = Gather (ids_and_special, place)
after_text = Greater (columns, text_end_column)
before_end = Less (columns, total_column)
is_second = And (after_text, before_end)
token_type_ids = Cast <to = 7> (is_second)
"""

SINGLE = (TEXTS, LENGTHS)
PAIRED = (TEXTS_AND_PAIRS, LENGTHS_OF_PAIRS)
