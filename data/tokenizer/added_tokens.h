// Tokens that stand for a literal text outside of BPE, and how they are found in a text.
#ifndef JEVONS_DATA_TOKENIZER_ADDED_TOKENS_H_
#define JEVONS_DATA_TOKENIZER_ADDED_TOKENS_H_

#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace jevons {

struct AddedToken {
  int32_t id;
  std::string content;
  bool special = true;
  // Is sought in the normalized text, after all others were found in the text as it came.
  bool normalized = false;
  bool lstrip = false;          // takes the white space before it along
  bool rstrip = false;          // and behind it
  bool ends_documents = false;  // the user said so; a field of ours, which Hugging Face's tokenizers passes over
  bool operator==(const AddedToken&) const = default;
};

// Some added tokens, indexed by content.
class AddedTokenSet {
 public:
  // False, and nothing inserted, if the content is there already.
  bool Insert(absl::string_view content, const AddedToken& token);

  // Cuts `text` at the tokens as Hugging Face's tokenizers does: the leftmost is next, the longest of those
  // that begin there. Calls on_text(stretch) for what lies between and on_token(id), in order. A token's
  // white space may overlap the next token; that one counts nevertheless.
  template <typename OnText, typename OnToken>
  void Cut(absl::string_view text, OnText on_text, OnToken on_token) const {
    size_t done = 0;
    for (size_t from = 0; !entries_.empty() && from < text.size();) {
      const Match match = Find(text, from);
      if (match.size == 0) break;
      const size_t begin = match.entry.lstrip ? SpacesBefore(text, done, match.position) : match.position;
      from = match.position + match.size;
      if (done < begin) on_text(text.substr(done, begin - done));
      on_token(match.entry.id);
      done = match.entry.rstrip ? SpacesAfter(text, from) : from;
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct Entry {
    int32_t id;
    bool lstrip;
    bool rstrip;
  };
  struct Match {
    size_t position;
    size_t size;  // 0: none
    Entry entry;
  };
  Match Find(absl::string_view text, size_t from) const;
  // Where the white space that ends at `position` begins, not before `from`; it may be that `from` >
  // `position`.
  static size_t SpacesBefore(absl::string_view text, size_t from, size_t position);
  static size_t SpacesAfter(absl::string_view text, size_t position);

  absl::flat_hash_map<std::string, Entry> entries_;
  std::vector<size_t> sizes_;  // distinct sizes of the contents, longest first
  std::bitset<256> first_;     // bytes that a content begins with
};

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_ADDED_TOKENS_H_
