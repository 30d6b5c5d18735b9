// The exponential moving average of the weights (DeepSeek-V3 report 3.2.3): a view of the model as it will be when the learning rate has
// decayed. In FP32 in the host's memory, of the slices whose masters this rank owns; a thread brings it up to date while the next step runs.
//
//   average.Begin(stream);    // the stream has updated the masters
//   ...                       // reads the masters only
//   average.Finish();         // they may change
#ifndef JEVONS_TRAINER_OPTIM_WEIGHT_AVERAGE_H_
#define JEVONS_TRAINER_OPTIM_WEIGHT_AVERAGE_H_

#include <memory>
#include <vector>

#include "kernels/base/worker.h"
#include "kernels/tensor/arena.h"
#include "kernels/tensor/device.h"

namespace jevons {

class WeightAverage {
 public:
  // masters: FP32, contiguous, where `stream` works; they outlive this. 0 < decay < 1.
  WeightAverage(double decay, std::vector<Tensor> masters, const Stream& stream);

  // The average of the masters as they are.
  void Reset(const Stream& stream);
  // average += (1 - decay) (masters - average), in FP32. From a device the masters are first copied to the host, beside what `stream` is given
  // next. REQUIRES: the last one is finished.
  void Begin(const Stream& stream);
  // Until it is over, if one has begun.
  void Finish();

  // Beside masters[i], on the host. REQUIRES: nothing is under way.
  const Tensor& of(size_t i) const;
  int64_t bytes() const { return arena_.used_bytes() + arrived_bytes_; }  // of the host

 private:
  void Update();

  const float rest_;  // 1 - decay
  const std::vector<Tensor> masters_;
  const Device device_;
  Arena arena_;
  std::vector<Tensor> averages_, arrived_;  // arrived_: what is read of the masters; themselves where they lie on the host
  int64_t arrived_bytes_ = 0;
  std::unique_ptr<Staging> staging_;
  OwnedStream copies_;
  Event updated_, copied_;
  bool under_way_ = false;
  Worker worker_;  // last: it uses all of the above
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_OPTIM_WEIGHT_AVERAGE_H_
