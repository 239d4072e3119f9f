// `/t.js`: what a merchant's pages load to keep the click in a first-party cookie and to report a
// sale by the pixel.

/// The merchant's snippet.
///
/// On a page: `<script src="https://EDGE/t.js" data-merchant="UUID"></script>`; on the page that
/// thanks for an order also `data-order-id`, `data-amount`, `data-currency`…, or
/// `clickd({order_id: "…", amount: "…"})`. `data-param` names the landing page's parameter when it is
/// not `click_id`.
public enum MerchantSnippet {
    /// The `Content-Type` to serve it with.
    public static let contentType = "text/javascript; charset=utf-8"
    /// The `Cache-Control` to serve it with: an hour.
    public static let cacheControl = "public, max-age=3600"

    /// The script, ES5.
    ///
    /// Tokens are checked by their form only: the edge checks the rest.
    public static let script: [UInt8] = Array(source.utf8)

    private static let source = #"""
        (function(w,d){"use strict";
        var s=d.currentScript,l=d.getElementsByTagName("script"),i;
        for(i=0;!s&&i<l.length;i++)if(/\/t\.js(\?|$)/.test(l[i].src))s=l[i];
        if(!s)return;
        var edge=s.src.replace(/\/t\.js(\?.*)?$/,""),
        merchant=s.getAttribute("data-merchant")||(/[?&]m=([^&]*)/.exec(s.src)||[])[1]||"",
        param=(s.getAttribute("data-param")||"click_id").replace(/[^\w-]/g,""),
        token=/^[\w-]{21}[AQgw]$/;
        function get(n){return(new RegExp("(?:^|; )"+n+"=([^;]*)").exec(d.cookie)||[])[1]||""}
        function put(n,v){d.cookie=n+"="+v+";path=/;max-age=7776000;samesite=lax"+
        (w.location.protocol==="https:"?";secure":"")}
        function path(){var a=get("click_path").split("."),r=[],i;
        for(i=0;i<a.length;i++)if(token.test(a[i]))r.push(a[i]);return r}
        var c=(new RegExp("[?&]"+param+"=([^&]*)").exec(w.location.search)||[])[1]||"",p=path();
        if(token.test(c)){put("click_id",c);
        if(p[p.length-1]!==c){p.push(c);put("click_path",p.slice(-20).join("."))}}
        function send(f){var q="merchant_id="+encodeURIComponent(merchant),k,c=get("click_id"),p=path();
        if(token.test(c)&&!f.click_id)q+="&click_id="+c;
        if(p.length&&!f.click_path)q+="&click_path="+p.slice(-20).join(",");
        for(k in f)if(Object.prototype.hasOwnProperty.call(f,k)&&f[k]!=null&&f[k]!=="")
        q+="&"+encodeURIComponent(k)+"="+encodeURIComponent(f[k]);
        new Image().src=edge+"/pixel.gif?"+q}
        w.clickd=send;
        var n=["order_id","event","amount","currency","coupon_code","customer_id","status"],f={};
        for(i=0;i<n.length;i++)f[n[i]]=s.getAttribute("data-"+n[i].replace("_","-"));
        if(f.order_id)send(f);
        })(window,document);

        """#
}
