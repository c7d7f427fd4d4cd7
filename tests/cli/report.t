#!/bin/sh
# The report page as a browser shows it: on a telephone and on a screen, light and dark.
. "$(dirname "$0")/../lib/tap.sh"

browser=$(command -v chromium || :)
if [ -z "$browser" ]; then
    skip 'C8: the report page' 'no chromium'
    finish
    exit
fi
check 'a page is made' env MVM_REPORT_PAGE="$tmp/r.html" "$MVM_BUILD/tests/unit/test-bench"

# The page in a frame of that width; what is measured becomes the text of the page around it.
frame() {
    cat <<N
<!doctype html><meta charset="utf-8"><body><iframe id="f" src="r.html" width="$1" height="3000" frameborder="0"></iframe>
<pre id="o"></pre><script>
document.getElementById('f').onload = e => {
  const w = e.target.contentWindow, d = w.document, style = w.getComputedStyle(d.body);
  const light = c => { const v = c.match(/[0-9.]+/g).slice(0, 3).map(x => (x /= 255) <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] };
  const back = light(style.backgroundColor);
  const contrast = c => { const l = light(c); return (Math.max(l, back) + .05) / (Math.min(l, back) + .05) };
  const texts = [...d.querySelectorAll('svg text')], all = [...d.querySelectorAll('h1,h2,p,dt,dd,th,td')];
  const box = t => t.getBoundingClientRect();
  document.getElementById('o').textContent = JSON.stringify({
    plots: d.querySelectorAll('svg[role=img]').length,
    dots: d.querySelectorAll('circle').length,
    smallest: Math.min(...texts.map(t => parseFloat(w.getComputedStyle(t).fontSize) * (t.getCTM ? t.getCTM().a : 1))),
    lowest: Math.min(...texts.map(t => box(t).height)),
    inside: texts.every(t => box(t).left >= 0 && box(t).right <= w.innerWidth),
    apart: texts.every((t, i) => texts.every((u, k) => k <= i || u.ownerSVGElement != t.ownerSVGElement || box(t).right < box(u).left ||
      box(u).right < box(t).left || box(t).bottom <= box(u).top + 3 || box(u).bottom <= box(t).top + 3)),
    scrolls: d.documentElement.scrollWidth > w.innerWidth,
    legend: d.querySelector('.legend') ? d.querySelector('.legend').textContent : '',
    dark: back < .2,
    contrast: Math.min(...all.map(t => contrast(w.getComputedStyle(t).color)), ...texts.map(t => contrast(w.getComputedStyle(t).fill)))
  });
};
</script>
N
}
# 0 is dark, 1 light.
for width in 360 1200; do
    frame "$width" >"$tmp/frame.html"
    for scheme in 0 1; do
        case $scheme in 0) name=dark ;; *) name=light ;; esac
        HOME=$tmp timeout 60 "$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
            --disable-component-update --disable-sync --user-data-dir="$tmp/chromium" --allow-file-access-from-files \
            --blink-settings=preferredColorScheme=$scheme --window-size=1300,3200 --dump-dom "file://$tmp/frame.html" >"$tmp/dom" 2>"$tmp/browser.err"
        seen=$(sed -n 's/.*<pre id="o">\(.*\)<\/pre>.*/\1/p' "$tmp/dom")
        [ -n "$seen" ] || tail -n 5 "$tmp/browser.err" | say
        seen() { printf '%s' "$seen" | jq -r "$1"; }
        is "C8: at $width px, $name: two plots, a dot for every sample" "$(seen '"\(.plots) \(.dots)"')" '2 6'
        is "C8: at $width px, $name: text of plots is at least 12 px high" "$(seen '.smallest >= 12 and .lowest >= 12')" true
        is "C8: at $width px, $name: text of plots stays inside and apart" "$(seen '"\(.inside) \(.apart)"')" 'true true'
        is "C8: at $width px, $name: the page does not scroll sideways" "$(seen .scrolls)" false
        is "C8: at $width px, $name: it says which line is the median and which p90" "$(seen .legend)" 'a samplemedian90th percentile (p90)'
        is "C8: at $width px: it is $name" "$(seen .dark)" "$([ $scheme = 0 ] && echo true || echo false)"
        is "C8: at $width px, $name: its text can be read" "$(seen '.contrast >= 4.5')" true
        printf '# %s\n' "$seen"
    done
done
finish
