-- A link at random among s1, s2, …; how many there are is the argument.
init = function(args)
    count = tonumber(args[1])
    head = "GET /s"
    tail = " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\n\r\n"
    math.randomseed(7)
end
request = function() return head .. math.random(count) .. tail end
