"""The few definitions that a written model may need besides torch's own."""

HELPERS = {
    "pool": '''def pool(x, kind, kernel, stride, pad):
    """Caffe's pooling: windows are counted rounding up, none begins beyond the map; averages count the padding."""
    ends, cells = [], []
    for n, k, s, p in zip(x.shape[2:], kernel, stride, pad):
        count = -(-(n + 2 * p - k) // s) + 1
        count -= any(pad) and (count - 1) * s >= n + p
        ends.append(max(0, (count - 1) * s + k - n - p))
        starts = torch.arange(count, device=x.device) * s - p
        cells.append((starts + k).clamp(max=n + p) - starts)
    x = F.pad(x, (pad[1], ends[1], pad[0], ends[0]), value=float("-inf") if kind == "MAX" else 0.0)
    if kind == "MAX":
        return F.max_pool2d(x, kernel, stride)
    return F.avg_pool2d(x, kernel, stride, divisor_override=1) / (cells[0][:, None] * cells[1]).to(x.dtype)

''',
    "Scale": """class Scale(nn.Module):
    def __init__(self, *shape, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x):
        return x * self.weight if self.bias is None else x * self.weight + self.bias

""",
    "load": '''

def load(weights=Path(__file__).with_suffix(".safetensors")):
    """The net with its weights, in evaluation mode."""
    net = Net()
    net.load_state_dict(load_file(weights))
    return net.eval()
''',
}
