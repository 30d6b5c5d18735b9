// How far a long pass over files is: a bar on a terminal, else a line in the log every few seconds.
#ifndef JEVONS_DATA_PREPARE_PROGRESS_H_
#define JEVONS_DATA_PREPARE_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace jevons {

class Progress {
 public:
  // `total` of `unit` (a plural) are to be done. Nothing is shown if it is over in a moment.
  Progress(std::string label, std::string unit, int64_t total);
  ~Progress();  // erases the bar

  void Update(int64_t done);

 private:
  using Clock = std::chrono::steady_clock;
  std::string Describe(int64_t done) const;

  std::string label_;
  std::string unit_;
  int64_t total_;
  bool terminal_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point shown_;
  bool drawn_ = false;
};

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_PROGRESS_H_
