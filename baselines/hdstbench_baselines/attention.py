"""Parts of a transformer that HisToGene, Hist2ST, EGN and TRIPLEX share."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Self-attention with several heads: every token of a set looks at all of them.

    One projection without bias gives queries, keys and values in this order, each with its heads one
    after the other; weights have no dropout, so the fused kernel computes the same as the authors'
    explicit softmax without keeping an N x N matrix.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """Mix tokens, [B, N, D] -> [B, N, D].

        `mask` is added to the scores, or where it is bool, True marks what is looked at; it has to be
        broadcastable to [B, heads, N, N]. With `seen` [B, M, D] the tokens look at these instead of at
        each other.
        """
        q, k, v = self._project(tokens) if seen is None else self._project_pair(tokens, seen)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.dropout(self.out(rearrange(mixed, "b h n d -> b n (h d)")))
        return out

    def _project(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return tuple(rearrange(self.qkv(tokens), "b n (i h d) -> i b h n d", i=3, h=self.heads))

    def _project_pair(self, tokens: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        width = len(self.qkv.weight) // 3
        q = functional.linear(tokens, self.qkv.weight[:width])
        kv = functional.linear(seen, self.qkv.weight[width:])
        k, v = rearrange(kv, "b m (i h d) -> i b h m d", i=2, h=self.heads)
        return rearrange(q, "b n (h d) -> b h n d", h=self.heads), k, v


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.wide = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token, [..., D] -> [..., D]."""
        hidden = self.dropout(functional.gelu(self.wide(x)))
        out: Tensor = self.dropout(self.narrow(hidden))
        return out


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward net, each on normalised tokens and added to what came in."""

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_width, dropout)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = FeedForward(width, hidden, dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """Mix and transform tokens, [B, N, D] -> [B, N, D]; see `Attention`, `seen` is normalised too."""
        other = None if seen is None else self.attention_norm(seen)
        tokens = tokens + self.attention(self.attention_norm(tokens), mask, other)
        out: Tensor = tokens + self.feed(self.feed_norm(tokens))
        return out
