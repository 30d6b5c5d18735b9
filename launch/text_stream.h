// Text that comes token by token, shown as early as it can be.
#ifndef JEVONS_LAUNCH_TEXT_STREAM_H_
#define JEVONS_LAUNCH_TEXT_STREAM_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace jevons {

// A token may end within a character, and a text that ends the generation within several tokens: such bytes are held back until
// it is known what they are. What comes out does not depend on how the bytes are cut into pieces, and is valid UTF-8 in every
// piece: U+FFFD stands for what is not.
class TextStream {
 public:
  // stops: texts that end the stream where the first of them is complete; they are not shown. Not empty, valid UTF-8.
  explicit TextStream(std::vector<std::string> stops = {}) : stops_(std::move(stops)) {}

  // Takes bytes and returns what can be shown; nothing more after a stop.
  std::string Push(absl::string_view bytes);
  // The end: what was held back.
  std::string Finish();
  bool stopped() const { return stopped_; }

 private:
  std::string Release();

  std::vector<std::string> stops_;
  std::string bytes_;  // the beginning of a character
  std::string text_;   // what may be the beginning of a stop
  bool stopped_ = false;
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_TEXT_STREAM_H_
