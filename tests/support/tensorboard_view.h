// What TensorBoard shows of a folder of event files. It reads them in the order of their names; a SessionLog START takes away all points of its
// step and later ones, and what is left it shows, be it twice of one step (plugin_event_accumulator.py, _CheckForRestartAndMaybePurge).
#ifndef JEVONS_TESTS_SUPPORT_TENSORBOARD_VIEW_H_
#define JEVONS_TESTS_SUPPORT_TENSORBOARD_VIEW_H_

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "trainer/metrics/tensorboard.h"

namespace jevons {

struct ShownPoint {
  int64_t step = 0;
  float value = 0;
};

class TensorBoardView {
 public:
  explicit TensorBoardView(const std::string& folder) {
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    for (const std::string& path : paths) Read(path);
  }

  const std::map<std::string, std::vector<ShownPoint>>& points() const { return points_; }  // by tag
  int starts() const { return starts_; }
  int taken_away() const { return taken_away_; }

 private:
  using Input = google::protobuf::io::CodedInputStream;
  using Wire = google::protobuf::internal::WireFormatLite;

  // Calls take(number, type, input) for each field of a message.
  template <typename Take>
  static void EachField(const std::string& message, const Take& take) {
    Input input(reinterpret_cast<const uint8_t*>(message.data()), static_cast<int>(message.size()));
    for (uint32_t tag = input.ReadTag(); tag != 0; tag = input.ReadTag())
      JEVONS_CHECK(take(Wire::GetTagFieldNumber(tag), tag, input), "an event's field %d", Wire::GetTagFieldNumber(tag));
  }
  static bool Bytes(Input& input, std::string& out) {
    uint32_t length = 0;
    return input.ReadVarint32(&length) && input.ReadString(&out, static_cast<int>(length));
  }

  void Read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    for (size_t at = 0; at < bytes.size();) {
      uint64_t length = 0;
      if (bytes.size() - at < sizeof length) return;  // torn, as the end of a file may be
      std::memcpy(&length, bytes.data() + at, sizeof length);
      const size_t framed = length + 16;
      if (bytes.size() - at < framed) return;
      const std::string data = bytes.substr(at + 12, length);
      JEVONS_CHECK(FramedRecord(data) == bytes.substr(at, framed), "%s: a record's checksums", path.c_str());
      TakeEvent(data);
      at += framed;
    }
  }

  void TakeEvent(const std::string& event) {
    int64_t step = 0;
    bool start = false;
    std::vector<std::pair<std::string, float>> values;
    EachField(event, [&](int number, uint32_t tag, Input& input) {
      std::string message;
      if (number == 2) {
        uint64_t value = 0;
        const bool read = input.ReadVarint64(&value);
        step = static_cast<int64_t>(value);
        return read;
      }
      if (number != 5 && number != 7) return Wire::SkipField(&input, tag);
      if (!Bytes(input, message)) return false;
      if (number == 7) {
        EachField(message, [&](int field, uint32_t field_tag, Input& fields) {
          uint64_t status = 0;
          if (field != 1) return Wire::SkipField(&fields, field_tag);
          const bool read = fields.ReadVarint64(&status);
          start = status == 1;
          return read;
        });
        return true;
      }
      EachField(message, [&](int, uint32_t, Input& summary) {
        std::string one;
        if (!Bytes(summary, one)) return false;
        auto& [name, value] = values.emplace_back();
        EachField(one, [&](int field, uint32_t field_tag, Input& fields) {
          if (field == 1) return Bytes(fields, name);
          uint32_t bits = 0;
          if (field != 2) return Wire::SkipField(&fields, field_tag);
          const bool read = fields.ReadLittleEndian32(&bits);
          std::memcpy(&value, &bits, sizeof value);
          return read;
        });
        return true;
      });
      return true;
    });
    if (start) {
      ++starts_;
      for (auto& [name, points] : points_)
        taken_away_ += static_cast<int>(std::erase_if(points, [&](const ShownPoint& point) { return point.step >= step; }));
    }
    for (const auto& [name, value] : values) points_[name].push_back({step, value});
  }

  std::map<std::string, std::vector<ShownPoint>> points_;
  int starts_ = 0, taken_away_ = 0;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_TENSORBOARD_VIEW_H_
