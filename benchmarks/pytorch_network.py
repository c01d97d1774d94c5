"""The tutorial's network and distortions in PyTorch, to compare with."""
import torch

functional, nn = torch.nn.functional, torch.nn

SIZE = 24   # Side of the crops.


def _normalized(x):
  return functional.local_response_norm(x, 9, alpha=0.001, beta=0.75, k=1)


def _pooled(x):
  return functional.max_pool2d(x, 3, 2, padding=1)


class Network(nn.Module):
  """float32 [n, 3, 24, 24] -> logits [n, 10]; conv1 of any width."""

  def __init__(self, width=64):
    super().__init__()
    self.conv1 = nn.Conv2d(3, width, 5, padding=2)
    self.conv2 = nn.Conv2d(width, 64, 5, padding=2)
    self.local3 = nn.Linear(2304, 384)
    self.local4 = nn.Linear(384, 192)
    self.softmax_linear = nn.Linear(192, 10)

  def forward(self, x):
    x = _normalized(_pooled(functional.relu(self.conv1(x))))
    x = _pooled(_normalized(functional.relu(self.conv2(x)))).flatten(1)
    x = functional.relu(self.local3(x))
    return self.softmax_linear(functional.relu(self.local4(x)))

  def decay(self):
    """The weight decay of the loss."""
    return sum(0.004 * 0.5 * layer.weight.square().sum()
               for layer in (self.local3, self.local4))


def distorted(images, indices):
  """The tutorial's distortions.

  Args:
    images: uint8 [n, 3, side, side].
    indices: int64 [batch], of the images to distort.

  Returns:
    float32 [batch, 3, 24, 24], standardized; its memory has the channels last.
  """
  inside = torch.arange(SIZE, device=images.device)
  draws = torch.rand([5, len(indices)], device=images.device)
  corners = (draws[:2] * (images.shape[-1] - SIZE + 1)).long()
  rows, columns = corners[:, :, None] + inside
  columns = torch.where((draws[2] < 0.5)[:, None], columns.flip(1), columns)
  images = images[indices[:, None, None], :, rows[:, :, None],
                  columns[:, None, :]].permute(0, 3, 1, 2).float()
  images = images + (draws[3] * 126 - 63)[:, None, None, None]
  means = images.mean([2, 3], keepdim=True)
  images = ((images - means) * (0.2 + 1.6 * draws[4])[:, None, None, None] +
            means)
  deviations, means = torch.std_mean(images, [1, 2, 3], keepdim=True,
                                     correction=0)
  images = (images - means) / deviations.clamp_min(images[0].numel()**-0.5)
  return images.contiguous(memory_format=torch.channels_last)
