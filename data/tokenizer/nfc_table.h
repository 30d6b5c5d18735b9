// The generated tables of nfc_table.cc, in the form in which they are stored.
#ifndef JEVONS_DATA_TOKENIZER_NFC_TABLE_H_
#define JEVONS_DATA_TOKENIZER_NFC_TABLE_H_

#include <cstdint>
#include <span>

namespace jevons {

// Triples: code points skipped since the run before, length, combining class. What is in no run has class 0.
std::span<const uint32_t> CombiningClassRuns();

// Triples: (distance from the code point before) * 2 + (it composes again), first, second (0: it is a
// single). Hangul syllables follow a formula instead.
std::span<const uint32_t> CanonicalDecompositions();

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_NFC_TABLE_H_
