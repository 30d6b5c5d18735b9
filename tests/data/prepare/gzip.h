// Text as gzip(1) writes it.
#ifndef JEVONS_TESTS_DATA_PREPARE_GZIP_H_
#define JEVONS_TESTS_DATA_PREPARE_GZIP_H_

#include <zlib.h>

#include <string>

#include "absl/strings/string_view.h"
#include "kernels/base/check.h"

namespace jevons {

inline std::string GzipCompress(absl::string_view text) {
  z_stream stream = {};
  JEVONS_CHECK(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<unsigned>(text.size());
  stream.next_out = reinterpret_cast<unsigned char*>(out.data());
  stream.avail_out = static_cast<unsigned>(out.size());
  JEVONS_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_DATA_PREPARE_GZIP_H_
